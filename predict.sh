#!/bin/sh
# The challenge's entry point: masks for /workspace/inputs in /workspace/outputs.
# Other folders and options: sh predict.sh -i IN -o OUT [options of infer.py]. It says a line a case;
# --progress lines also shows how far a volume is.
cd "$(dirname "$0")" || exit 2
# Large temporaries come fresh from the kernel; huge pages take 10-15 % off the encoder. Set here,
# it spares a restart (litemedsam_jax/process.py).
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1}"
exec "${PYTHON:-python}" infer.py -i /workspace/inputs -o /workspace/outputs \
    --progress none "$@"
