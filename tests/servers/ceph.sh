#!/usr/bin/env bash
# Ceph's object gateway with one monitor and one disk in memory: S3 with real
# signatures, conditions, policies and multipart uploads. PORT + 1 is taken too.
#
# kill ends the gateway only, and start brings it back with all data; after stop
# the next start begins with nothing. DIR/env.append makes a client of whoever
# sources it after DIR/env: one that may put, get and list, but not delete.
. "$(dirname "$0")/lib"

user=esker-owner secret=esker-owner-secret
client=esker-client client_secret=esker-client-secret

install() {
  debian radosgw:radosgw ceph-mon:ceph-mon ceph-osd:ceph-osd ceph:ceph-common curl:curl rclone:rclone \
    faketime:faketime
}

configuration() {
  cat <<C
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon initial members = a
mon host = [v2:127.0.0.1:$((port + 1))]
public addr = 127.0.0.1
ms bind ipv6 = false
run dir = $dir/run
admin socket = $dir/run/\$name.\$pid.asok
log file = $dir/\$name.log
pid file =
keyring = $dir/keyring
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
# one of each will do, and soon
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 1
mon data avail crit = 1
paxos propose interval = 0.05
paxos min wait = 0.01
[mon.a]
host = localhost
mon data = $dir/mon
[osd.0]
keyring = $dir/osd/keyring
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd max object name len = 1024
osd op num shards = 2
[client.admin]
rgw frontends = beast endpoint=127.0.0.1:$port
rgw thread pool size = 32
rgw dynamic resharding = false
rgw override bucket index max shards = 1
rgw enable usage log = false
rgw gc obj min wait = 5
C
}

ask() { ceph --connect-timeout 5 "$@"; }

# monitor and disk, made anew: what the disk held is gone with its process
make_cluster() {
  end KILL rgw osd mon
  rm -rf "$dir/mon" "$dir/osd" "$dir/run" "$dir/keyring" "$dir/monmap"
  mkdir -p "$dir/mon" "$dir/osd" "$dir/run"
  configuration >"$CEPH_CONF"
  ceph-authtool --create-keyring "$dir/keyring" --gen-key -n mon. --cap mon 'allow *'
  ceph-authtool "$dir/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
  monmaptool --create --addv a "[v2:127.0.0.1:$((port + 1))]" "$dir/monmap" \
    --fsid "$(sed -n 's/^fsid = //p' "$CEPH_CONF")"
  ceph-mon -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring"
  launch mon ceph-mon -f -i a
  local disk
  disk=$(cat /proc/sys/kernel/random/uuid)
  answers mon ask osd new "$disk" 0
  ask auth get-or-create osd.0 mon 'allow profile osd' osd 'allow *' -o "$dir/osd/keyring"
  ceph-osd -i 0 --mkfs --osd-uuid "$disk"
  launch osd ceph-osd -f -i 0
}

# signed CURL-ARGUMENTS...: a request by the owner
signed() {
  http -f --aws-sigv4 aws:amz:us-east-1:s3 --user "$user:$secret" -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@"
}

# the bucket, and a second user who may not delete in it
fill() {
  local endpoint=http://127.0.0.1:$port
  signed -X PUT "$endpoint/esker-test"
  # parameters in the order in which they are signed
  signed -X PUT "$endpoint/admin/user?access-key=$client&display-name=$client&secret-key=$client_secret&uid=$client"
  # the owner is named as well: what the client puts is the client's, and closed to him otherwise
  cat >"$dir/policy" <<C
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/$client"]},
   "Action": ["s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation",
     "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"],
   "Resource": ["arn:aws:s3:::esker-test", "arn:aws:s3:::esker-test/*"]},
  {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/$user"]}, "Action": "s3:*",
   "Resource": ["arn:aws:s3:::esker-test", "arn:aws:s3:::esker-test/*"]}]}
C
  signed -X PUT --data-binary "@$dir/policy" "$endpoint/esker-test?policy="
}

start() {
  export CEPH_CONF=$dir/ceph.conf
  vacant
  local new=
  alive mon && alive osd || new=yes
  [ -z "$new" ] || make_cluster >"$dir/make.log" 2>&1 || die "$(tail -3 "$dir/make.log")"
  launch rgw radosgw -f -n client.admin
  if [ -n "$new" ]; then
    radosgw-admin -n client.admin user create --uid $user --display-name $user --access-key $user --secret $secret \
      --caps 'users=*' >"$dir/user.log" 2>&1 || die "$(tail -3 "$dir/user.log")"
  fi
  local endpoint=http://127.0.0.1:$port
  answers rgw http "$endpoint"
  [ -z "$new" ] || fill
  local url="s3://esker-test/backups/ceph?endpoint=$endpoint&region=us-east-1"
  environment "ESKER_REPOSITORY=$url" \
    AWS_ACCESS_KEY_ID=$user AWS_SECRET_ACCESS_KEY=$secret AWS_EC2_METADATA_DISABLED=true \
    FOREIGN=foreign:esker-test/backups/ceph RCLONE_CONFIG_FOREIGN_TYPE=s3 RCLONE_CONFIG_FOREIGN_PROVIDER=Ceph \
    "RCLONE_CONFIG_FOREIGN_ENDPOINT=$endpoint" RCLONE_CONFIG_FOREIGN_ACCESS_KEY_ID=$user RCLONE_CONFIG_FOREIGN_SECRET_ACCESS_KEY="$secret"
  environment env.append AWS_ACCESS_KEY_ID=$client AWS_SECRET_ACCESS_KEY=$client_secret \
    RCLONE_CONFIG_FOREIGN_ACCESS_KEY_ID=$client RCLONE_CONFIG_FOREIGN_SECRET_ACCESS_KEY=$client_secret
}

# the gateway first: it hangs on a cluster that is gone
stop() { end TERM rgw osd mon; }
crash() { end KILL rgw; }

act "$@"
