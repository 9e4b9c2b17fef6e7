#!/bin/sh
# The main job, end to end, on an embedded PostgreSQL in a throw-away home: leads come in, every message
# gets its day under the quota, a worker sends what is due today, and the tables prove it.
# Uses nothing of the caller's: no environment, no .env, no database. Run it with `make run`.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
hyperdrip=$(command -v hyperdrip) || {
    echo "hyperdrip is not installed here; type: make run" >&2
    exit 1
}

# In /tmp whatever TMPDIR says: a socket's path must be short, and the server, which never runs as
# root, must be able to reach it (hence 711).
home=$(mktemp -d /tmp/hyperdrip.XXXXXX)
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 711 "$home"
mkdir "$home/examples"
cp "$root/examples/leads.csv" "$home/examples/"
cd "$home"

run_hyperdrip() {
    env -i PATH="$PATH" HOME="$home" HYPERDRIP_HOME="$home/data" DAILY_MAX=5 LANG="${LANG:-C.UTF-8}" \
        ${LC_ALL:+"LC_ALL=$LC_ALL"} ${TERM:+"TERM=$TERM"} ${COLORTERM:+"COLORTERM=$COLORTERM"} \
        ${NO_COLOR:+"NO_COLOR=$NO_COLOR"} ${COLUMNS:+"COLUMNS=$COLUMNS"} \
        "$hyperdrip" --env-file /dev/null "$@"
}

clean_up() {
    trap '' HUP INT TERM
    run_hyperdrip db stop >/dev/null 2>&1 || true
    cd /
    rm -rf "$home"
}

# step HEADING ARGUMENT...
step() {
    printf '\n== %s\n' "$1"
    shift
    printf '$ hyperdrip %s\n' "$*"
    run_hyperdrip "$@" || {
        status=$?
        echo "the main job stopped: hyperdrip $* ended with exit code $status" >&2
        exit "$status"
    }
}

echo "Hyperdrip's main job, on a PostgreSQL of its own that is thrown away at the end."
echo "DAILY_MAX=5: at most 5 messages leave on any day, over all leads."

step "12 leads come in, and each of their messages gets its day" import examples/leads.csv
step "The days ahead" plan
step "Send what is due today (the console sender prints, and delivers nothing)" \
    worker --drain --sender console --message-delay 0
step "The queues: one for each sending day" queues show
step "Today's quota" quota today
step "The proof, from the tables" audit

case $hyperdrip in
    "$root"/.venv/bin/hyperdrip) yours=.venv/bin/hyperdrip ;;
    *) yours=hyperdrip ;;
esac
printf '\nYours: %s add-lead --name "Your Name" --email you@example.com\n' "$yours"
