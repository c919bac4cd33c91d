#!/usr/bin/env bash
# A repository is a set of files: made in a directory and copied to a store by
# somebody else's program it opens there as it is, grows there, and comes back.
. "$(dirname "$0")/lib"

mkdir "$work/tree"
for file in $(seq 40); do noise "$work/tree/$file" 200000; done
export ESKER_KEY_FILE=$work/key
esker -q -r "$work/repository" init --key-file "$work/key"
esker -q -r "$work/repository" backup --name before "$work/tree"
cp -a "$work/tree" "$work/tree-before"
step made
for server in ceph sftp; do
  serve $server
  step "start $server"
  rclone copy -q "$work/repository" "$FOREIGN"
  step "copy to $server"
  restores before "$work/tree-before"
  esker -q check --read-data
  noise "$work/tree/$server" 300000
  esker -q backup --name "on-$server" "$work/tree"
  restores "on-$server" "$work/tree"
  step "used on $server"
  rclone copy -q "$FOREIGN" "$work/back-from-$server"
  export ESKER_REPOSITORY=$work/back-from-$server
  restores before "$work/tree-before"
  restores "on-$server" "$work/tree"
  esker -q check --read-data
  step "back from $server"
done
