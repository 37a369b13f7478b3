#!/bin/sh
# An editor that gives the object a label.
sed -i 's/^  name: settings$/  name: settings\n  labels: {edited: "yes"}/' "$1"
