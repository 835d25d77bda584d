# Two stages: the first has pip, the image has only Python, the hashed packages, the program and the reference bundle.
FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# pip lives in an environment of its own: the one that is copied never has it. Wheels only: nothing is compiled.
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/ovcf-node \
 && /opt/build/bin/pip install --no-cache-dir --only-binary :all: --require-hashes -r requirements-build.lock \
 && /opt/build/bin/pip --python /opt/ovcf-node install --no-cache-dir --only-binary :all: --require-hashes -r requirements.lock \
 # 60 MB: the packages' tests of themselves.
 && find /opt/ovcf-node -type d -name tests -prune -exec rm -rf {} +
COPY pyproject.toml README.md LICENSE ./
COPY service service
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /opt/build/bin/pip --python /opt/ovcf-node install --no-cache-dir --no-deps --no-index /wheel/*.whl

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="ovcf-node" \
      org.opencontainers.image.description="Reads thoracolumbar CT for vertebral compression fractures; research use" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update && apt-get install -y --no-install-recommends python3 tzdata && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 ovcf \
 && useradd --uid 10001 --gid ovcf --home-dir /var/lib/ovcf-node --no-create-home --shell /usr/sbin/nologin ovcf \
 && install --directory --owner=ovcf --group=ovcf --mode=0700 /var/lib/ovcf-node
COPY --from=build /opt/ovcf-node /opt/ovcf-node
# Where deploy/ovcf-node.toml, mounted as /etc/ovcf-node.toml, and the built-in default both look for it.
COPY models/reference /models/reference
ENV PATH=/opt/ovcf-node/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OVCF_NODE_CONFIG=/etc/ovcf-node.toml
# onnxruntime's own builds (1.29 on) report to Microsoft unless this is set before it is loaded.
ENV ORT_DISABLE_TELEMETRY=1
WORKDIR /
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
VOLUME /var/lib/ovcf-node
EXPOSE 11112 11113 2762 11114 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s CMD ["ovcf-node", "alive"]
ENTRYPOINT ["ovcf-node"]
CMD ["serve"]
