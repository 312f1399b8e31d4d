#!/usr/bin/env bash
# Prints what is wrong with a model, from the log of a build that failed: the sentences of fathom_add_model and of its programs about
# the models, or that of a config.json which the compiler refused. If it is something else, prints the whole log.
#
#   bash cmake/say-why.sh LOG [MODEL ...]
set -euo pipefail
log=$1
shift
models=$(printf '%s\n' "$@") awk '
  BEGIN { count = split(ENVIRON["models"], models, "\n") }
  { about = $0 ~ /^  fathom_add_model: /
    for (i = 1; i <= count; ++i) if (models[i] != "" && index($0, models[i]) == 1) about = 1
    if (about) on = 1
    if ($0 ~ /^(ninja: |Call Stack|\[[0-9]|FAILED: )/) on = 0
    if (on) { print; some = 1 } }
  END { exit !some }' "$log" && exit
# The compiler names the file in an assertion, and the problem as text in its argument.
file=$(sed -n '/.*static assertion failed.*fathom_add_model: \(.*\): is the config of no model.*/{s//\1/p;q}' "$log")
problem=$(sed -n '/.*config_problem{"\(.*[^\\]\)"}.*/{s//\1/p;q}' "$log" | sed 's/\\\(.\)/\1/g')
if [ -n "$file" ] && [ -n "$problem" ]; then
  echo "$file: $problem"
else
  cat "$log"
fi
