#!/bin/bash
# forward.sh TARGET PORT… -- URL…: forwards ports, fetches the URLs while they are, and says what came.
target=$1
shift
ports=()
while [ "$1" != -- ]; do
  ports+=("$1")
  shift
done
shift
kubectl port-forward "$target" "${ports[@]}" >forward.out 2>forward.err &
pid=$!
for _ in $(seq 300); do
  [ "$(grep -c 'Forwarding from 127' forward.out)" = "${#ports[@]}" ] && break
  sleep 0.1
done
for url; do
  if curl -s --max-time 20 -o got "$url"; then sed 's/web-[a-z0-9-]*/POD/' got; else echo "nothing came"; fi
done
# It has ended by itself when a port leads nowhere.
kill "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
grep -v '\[::1\]' forward.out | sort
