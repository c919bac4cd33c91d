#!/usr/bin/env bash
# A clustered database (RonDB, MySQL NDB): databases and users of the SQL server, and the native backups of two data nodes whose
# volumes only their own host sees. Three hosts contribute a part each to one set, which has the backup's number. A real MariaDB
# is the SQL server; ndb_mgm, ndb_restore and the data nodes' files are stand-ins.
. "$(dirname "$0")/lib"

server mariadb
server moto
step servers

export NODES=$work/nodes
bin=$work/bin
mkdir -p "$bin"
# `ndb_mgm -e "START BACKUP N WAIT COMPLETED"`: each node writes its fragment in two parts, and all is well, whatever is not written
cat >"$bin/ndb_mgm" <<'M'
#!/usr/bin/env bash
set -eu
[ "$1" = -e ] && read -r start backup id rest <<<"$2" && [ "$start $backup" = 'START BACKUP' ]
for node in 1 2; do
  at=$NODES/$node/BACKUP/BACKUP-$id
  for part in 1 2; do
    [ ! -e "$NODES/lacks-$node-$part" ] || continue
    to=$at/BACKUP-$id-PART-$part-OF-2
    mkdir -p "$to"
    split -n "l/$part/2" "$NODES/$node/fragment" >"$to/BACKUP-$id-0.$node.Data"
    printf 'NDBBCKUP %d %d\n' "$id" "$node" >"$to/BACKUP-$id.$node.ctl"
    printf 'log of %d\n' "$id" >"$to/BACKUP-$id.$node.log"
    chmod -R go-rwx "$at"
  done
done
printf 'Node 1: Backup %d started from node 49 completed\n' "$id"
M
# `ndb_restore ID`: the fragments come from the backup
cat >"$bin/ndb_restore" <<'R'
#!/usr/bin/env bash
set -eu
for node in 1 2; do
  cat "$NODES/$node/BACKUP/BACKUP-$1/BACKUP-$1-PART-"{1,2}"-OF-2/BACKUP-$1-0.$node.Data" >"$NODES/$node/fragment"
done
R
chmod +x "$bin"/*
PATH=$bin:$PATH

sql() { MYSQL_PWD=$(setting mariadb ESKER_TEST_PASSWORD) mariadb --no-defaults -uroot -S "$work/servers/mariadb/run/socket" --batch --raw -N "$@"; }
fragments() { # fragments WORD: what the data nodes hold
  local node
  for node in 1 2; do
    mkdir -p "$NODES/$node"
    seq $((node * 10000)) $((node * 10000 + 3000)) | sed "s/$/ $1/" >"$NODES/$node/fragment"
  done
}
sql <<'S'
CREATE DATABASE shop CHARACTER SET utf8mb4;
CREATE DATABASE `hops-works`;
USE shop;
CREATE TABLE things (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(60), data BLOB, price DECIMAL(10,2));
CREATE TABLE audit (id INT PRIMARY KEY AUTO_INCREMENT, what TEXT);
INSERT INTO things (name, data, price) SELECT CONCAT('thing ', seq, ' ü''\\'), UNHEX(MD5(seq)), seq / 7 FROM seq_1_to_2000;
CREATE VIEW cheap AS SELECT id, name FROM things WHERE price < 10;
DELIMITER //
CREATE PROCEDURE raise_all(IN share INT) BEGIN UPDATE things SET price = price * (100 + share) / 100; END//
CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n//
CREATE TRIGGER after_thing AFTER INSERT ON things FOR EACH ROW INSERT INTO audit (what) VALUES (CONCAT('new: ', NEW.name))//
CREATE EVENT sweep ON SCHEDULE EVERY 1 DAY STARTS '2026-01-01 03:00:00' DO BEGIN DELETE FROM audit WHERE id < 0; END//
DELIMITER ;
CREATE TABLE `hops-works`.projects (id INT PRIMARY KEY, shop_thing INT, notes JSON);
INSERT INTO `hops-works`.projects VALUES (1, 7, '{"a": 1}'), (2, 8, NULL);
CREATE VIEW `hops-works`.with_things AS SELECT p.id, p.notes FROM `hops-works`.projects p WHERE p.shop_thing > 7;
CREATE ROLE reader;
GRANT SELECT ON shop.* TO reader;
CREATE USER 'app'@'localhost' IDENTIFIED BY 'sesame''\\';
GRANT SELECT, INSERT, EXECUTE ON shop.* TO 'app'@'localhost';
GRANT reader TO 'app'@'localhost';
S
# everything(): all rows, and all that is no row
everything() {
  local of
  for of in shop.things shop.cheap shop.audit hops-works.projects hops-works.with_things; do
    sql -e "SELECT '$of'; SELECT * FROM \`${of%.*}\`.\`${of#*.}\` ORDER BY id"
  done
  sql -e 'SHOW CREATE PROCEDURE shop.raise_all; SHOW CREATE FUNCTION shop.twice; SHOW CREATE TRIGGER shop.after_thing; SHOW CREATE EVENT shop.sweep' |
    # when a trigger was made is not of it
    sed 's/\t20[0-9-]* [0-9:.]*$//'
  sql -e "SHOW CREATE VIEW shop.cheap; SHOW CREATE TABLE shop.things; SHOW CREATE USER app@localhost; SHOW GRANTS FOR app@localhost; SHOW GRANTS FOR reader"
}
fragments first

# on HOST WORDS...: esker as that host
on() {
  local host=$1
  shift
  HOME=$work/$host/home ESKER_CACHE_DIR=$work/$host/cache ESKER_CONFIG=$work/$host/esker.toml "$ESKER" "$@"
}
setting mariadb ESKER_TEST_PASSWORD | secret mariadb
for host in sql node-1 node-2; do
  mkdir -p "$work/$host/home"
  {
    repository cluster moto AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    cat <<C
[profiles.$host]
repositories = ["cluster"]
host = "$host"
name = "backup-{id}-{host}"
retention = { last = 2 }
set = { name = "backup-{id}", part = "$host", parts = ["sql", "node-1", "node-2"] }

[[profiles.$host.sources]]
C
    case $host in
      sql) cat <<C ;;
name = "mysqld"
[profiles.sql.sources.preset]
kind = "mariadb"
socket = "$work/servers/mariadb/run/socket"
user = "root"
password = { file = "$secrets/mariadb" }
C
      # the first node's host has the backup started, the other finds it there
      node-1) cat <<C ;;
name = "ndb"
[profiles.node-1.sources.preset]
kind = "ndb"
start = ["ndb_mgm", "-e", "START BACKUP {id} WAIT COMPLETED"]
directories = ["$NODES/1"]
nodes = [1]
C
      node-2) cat <<C ;;
name = "ndb"
[profiles.node-2.sources.preset]
kind = "ndb"
directories = ["$NODES/2"]
nodes = [2]
C
    esac
  } >"$work/$host/esker.toml"
done
(export ESKER_PASSWORD=$password && on sql -q -r cluster init)
for host in sql node-1 node-2; do ends 0 on $host config check; done
step config

# night ID: the three hosts save their parts of it
night() {
  ends 0 on node-1 -q run node-1 --set-id "$1"
  ends 0 on node-2 -q run node-2 --set-id "$1"
  ends 0 on sql -q run sql --set-id "$1"
}
ends 2 on sql -q run sql
says set-id
ends 2 on sql -q run sql --set-id 4294967296
# numbers have 32 bits
night 4294967001
step 'first night'

sql shop -e "CALL raise_all(10); DELETE FROM things WHERE id % 100 = 3; INSERT INTO things (name, price) VALUES ('later', 1);" \
  -e "INSERT INTO \`hops-works\`.projects VALUES (3, 9, '[]'); GRANT UPDATE ON shop.* TO app@localhost"
fragments second
# a part is missing, and ndb_mgm says that the backup is complete
touch "$NODES/lacks-2-2"
ends 0 on node-1 -q run node-1 --set-id 4294967002
ends 1 on node-2 -q run node-2 --set-id 4294967002
says 'PART-2-OF-2 of backup 4294967002 of node 2'
# the whole node is
touch "$NODES/lacks-2-1"
ends 0 on node-1 -q run node-1 --set-id 4294967003
ends 1 on node-2 -q run node-2 --set-id 4294967003
says '2/BACKUP/BACKUP-4294967003'
# a number that was taken does not start another backup
cp -a "$NODES/1/BACKUP/BACKUP-4294967003" "$work/untouched"
ends 1 on node-1 -q run node-1 --set-id 4294967003
says 'backup 4294967003 is there already'
same "$work/untouched" "$NODES/1/BACKUP/BACKUP-4294967003"
rm "$NODES"/lacks-*
step 'missing parts'

night 4294967004
on sql -r cluster --json snapshots >"$work/json"
# status NAME: the status of the snapshot of that name
status() { grep "\"name\":\"$1\"" "$work/json" | grep -o '"status":"[a-z]*"' | cut -d'"' -f4; }
for host in sql node-1 node-2; do
  [ "$(status backup-4294967004-$host)" = complete ] && [ "$(status backup-4294967001-$host)" = complete ] ||
    fail "both nights are complete: $(on sql -r cluster snapshots)"
done
# the sets that lack a node push out no whole one, and of them only the newest is left
[ "$(status backup-4294967003-sql)$(status backup-4294967003-node-1)" = complete ] || fail 'the newest set is gone'
[ "$(status backup-4294967002-node-1)" = deleting ] || fail 'a set that lacks a node stays'
step 'second night'

everything >"$work/everything"
cp -a "$NODES" "$work/nodes-before"
"$servers/mariadb.sh" stop "$work/servers/mariadb"
disaster
rm -rf "$work/servers/mariadb" "$NODES" "$work/sql" "$work/node-1" "$work/node-2"
again mariadb
mkdir -p "$NODES/1" "$NODES/2"
for host in sql node-1 node-2; do
  mkdir -p "$work/$host/home"
  (. "$work/servers/moto/env" && unset ESKER_REPOSITORY && export ESKER_PASSWORD=$password &&
    ends 0 on $host -r "$(place moto cluster)" recover --profile $host)
  for name in password cluster.AWS_SECRET_ACCESS_KEY; do says "$secrets/$name"; done
  [ $host != sql ] || says "$secrets/mariadb"
done
remember cluster moto AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
setting mariadb ESKER_TEST_PASSWORD | secret mariadb
for host in sql node-1 node-2; do
  ends 0 on $host -q -r cluster restore --profile $host latest --yes
done
everything >"$work/everything-after"
cmp "$work/everything" "$work/everything-after" || fail "databases differ: $(diff "$work/everything" "$work/everything-after" | head -5)"
# the password of a user who was restored, and the trigger
MYSQL_PWD="sesame'\\" mariadb --no-defaults -uapp -S "$work/servers/mariadb/run/socket" shop -e "INSERT INTO things (name) VALUES ('by app')"
[ "$(sql shop -e "SELECT COUNT(*) FROM audit WHERE what = 'new: by app'")" = 1 ] || fail 'the trigger does not work'
for node in 1 2; do
  diff -r "$work/nodes-before/$node/BACKUP/BACKUP-4294967004" "$NODES/$node/BACKUP/BACKUP-4294967004" ||
    fail "the backup of node $node differs"
done
ndb_restore 4294967004
for node in 1 2; do cmp "$work/nodes-before/$node/fragment" "$NODES/$node/fragment" || fail "rows of node $node differ"; done
step restored

# the set as one: each part in a directory of its own
ends 0 on sql -q -r cluster restore backup-4294967004 "$work/set"
for part in sql node-1 node-2; do [ -d "$work/set/$part" ] || fail "the set came back without $part"; done
rm -r "$work/set"
ends 1 on sql -q -r cluster restore backup-4294967003 "$work/set"
says 'lacks sql, node-2'
[ ! -e "$work/set" ] || fail 'a part of a set that is not whole was written'
step 'set restored'

night 4294967005
step 'next night'

# nobody counts: the host that starts the backup chooses the number, the other finds it in its directory, the SQL server's is told
ends 0 on node-1 -q run node-1
ends 0 on node-2 -q run node-2
id=$(cd "$NODES/1/BACKUP" && printf '%s\n' BACKUP-* | cut -d- -f2 | sort -n | tail -1)
[ "$id" -gt 4294967005 ] || fail "no new backup was started: the newest is $id"
ends 0 on sql -q run sql --set-id "$id"
on sql -r cluster --json snapshots >"$work/json"
for host in sql node-1 node-2; do
  [ "$(status backup-$id-$host)" = complete ] || fail "the night without a number is complete: $(on sql -r cluster snapshots)"
done
step 'night without a number'
