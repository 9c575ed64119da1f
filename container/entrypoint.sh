#!/bin/sh
# Gives up root before any input is read: the command runs as the owner of the mounted outputs
# folder, who can write it. If that is root, it runs as user 0 without a single capability, who
# can do no more than own that folder. `docker run --user` is left as it is.
outputs=/workspace/outputs
owner=$(stat -c %u "$outputs") && group=$(stat -c %g "$outputs")
as=

if [ "$(id -u)" = 0 ] && [ -n "$group" ]; then
    drop="setpriv --reuid=$owner --regid=$group --clear-groups --bounding-set=-all --inh-caps=-all
        --no-new-privs --"
    # Refused where the engine took these capabilities itself (--cap-drop ALL).
    if $drop true 2>/dev/null; then
        as=$drop
    fi
fi
if ! $as test -w "$outputs"; then
    echo "litemedsam: user $($as id -u) cannot write to $outputs, which belongs to user $owner" \
        "and has permissions $(stat -c %A "$outputs"); mount a folder that it can write to" >&2
fi
exec $as "$@"
