#!/bin/sh
# An editor that first makes an error, which it finds told at the file's head when it is opened again.
if grep -q 'is invalid\|was not valid\|not valid' "$1"; then
  cp "$1" seen-error
  sed -i 's/^  BAD KEY: x$/  good: x/' "$1"
else
  sed -i 's/^data:$/data:\n  BAD KEY: x/' "$1"
fi
