# The image for training on NVIDIA GPUs (driver 580 or newer); see docs/cluster.md.
# docker build -f train.Dockerfile -t litemedsam-train .            (for CPUs: --build-arg JAX=jax)
# docker run --rm --gpus all --shm-size 2g --user $(id -u):$(id -g) -v $PWD:/work litemedsam-train \
#     finetune -data_root /work/data/npy -work_dir /work/work_dir/run1
FROM python:3.11-slim
ARG JAX=jax[cuda13]
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /opt/app
COPY pyproject.toml constraints.txt README.md LICENSE train.py ./
# JAX's CUDA 13 wheels bring CUDA and cuDNN along, so no CUDA image is needed. Versions are pinned;
# constraints.txt has no hashes, since what is trained leaves this image as weights alone.
COPY litemedsam_jax ./litemedsam_jax
RUN python -m pip install -c constraints.txt ".[train]" "$JAX"
# The published weights (hash checked) to start from.
RUN python -m litemedsam_jax weights --output work_dir/LiteMedSAM/lite_medsam.safetensors && chmod -R a+rX work_dir
# A user without a home folder is fine: what JAX and matplotlib cache goes to /tmp.
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "/opt/app/train.py"]
CMD ["--help"]
