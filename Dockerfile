# An image with the command `layertap`, for CPUs:
#     docker build -t layertap .
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" layertap extract digits
# For NVIDIA GPUs, whose libraries pip brings (run it with --gpus all):
#     docker build -t layertap-gpu --build-arg PACKAGES='tensorflow[and-cuda]' .
FROM python:3.12-slim

ARG EXTRAS=tensorflow
ARG PACKAGES=
COPY . /source
# --user may name somebody without a home folder, to whom Keras and matplotlib write their settings.
ENV HOME=/tmp PIP_ROOT_USER_ACTION=ignore
RUN pip install --no-cache-dir "/source[${EXTRAS}]" ${PACKAGES} && rm -rf /source /tmp/*

WORKDIR /work
ENTRYPOINT ["layertap"]
CMD ["--help"]
