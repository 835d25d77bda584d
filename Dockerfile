# Two stages: wheels are installed where a compiler may be, the image holds only Python, the packages and the bundle.
FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /opt/ovcf-node \
 && /opt/ovcf-node/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && python3 -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /opt/ovcf-node/bin/pip install --no-cache-dir --no-deps /wheel/*.whl \
 && /opt/ovcf-node/bin/pip uninstall -y pip

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="ovcf-node" \
      org.opencontainers.image.description="Reads thoracolumbar CT for vertebral compression fractures; research use" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/ovcf-node --create-home ovcf
COPY --from=build /opt/ovcf-node /opt/ovcf-node
COPY models/reference /opt/ovcf-node/bundle
ENV PATH=/opt/ovcf-node/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OVCF_NODE_CONFIG=/etc/ovcf-node.toml OVCF_NODE__NODE__BUNDLE=/opt/ovcf-node/bundle
USER ovcf
VOLUME /var/lib/ovcf-node
EXPOSE 11112
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["ovcf-node", "alive"]
ENTRYPOINT ["ovcf-node"]
CMD ["serve"]
