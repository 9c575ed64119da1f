#!/bin/sh
# Gives up root before any input is read: the command runs as the owner of the mounted outputs
# folder, who can write it. If that is root, it runs as user 0 without a single capability, who
# can do no more than own that folder. `docker run --user` is left as it is.
outputs=/workspace/outputs

if [ "$(id -u)" = 0 ] && owner=$(stat -c %u "$outputs") && group=$(stat -c %g "$outputs"); then
    drop="setpriv --reuid=$owner --regid=$group --clear-groups --bounding-set=-all --inh-caps=-all
        --no-new-privs --"
    # Refused where the engine took these capabilities itself (--cap-drop ALL).
    if $drop true 2>/dev/null; then
        exec $drop "$@"
    fi
fi
exec "$@"
