{{- define "ovcf-node.labels" -}}
app.kubernetes.io/name: ovcf-node
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .role }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "ovcf-node.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if hasPrefix "sha256:" $tag -}}{{ .Values.image.repository }}@{{ $tag }}{{- else -}}{{ .Values.image.repository }}:{{ $tag }}{{- end -}}
{{- end }}

{{- /* One Deployment: root, role, resources, and optionally replicas, ports (name, port), probes, environment, mounts, volumes. */ -}}
{{- define "ovcf-node.deployment" -}}
{{- $root := .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $root.Release.Name }}-{{ .role }}
  labels: {{- include "ovcf-node.labels" . | nindent 4 }}
spec:
  replicas: {{ if hasKey . "replicas" }}{{ .replicas }}{{ else }}1{{ end }}
  strategy:
    type: RollingUpdate
  selector:
    matchLabels: {{- include "ovcf-node.labels" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "ovcf-node.labels" . | nindent 8 }}
      annotations:
        checksum/config: {{ $root.Values.config | sha256sum }}
        {{- with $root.Values.podAnnotations }}{{ toYaml . | nindent 8 }}{{ end }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 40
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {type: RuntimeDefault}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets: {{- range . }}
        - name: {{ . }}{{ end }}
      {{- end }}
      containers:
        - name: {{ .role }}
          image: {{ include "ovcf-node.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [run, {{ .role }}]
          securityContext:
            readOnlyRootFilesystem: true
            allowPrivilegeEscalation: false
            capabilities: {drop: [ALL]}
          env:
            - {name: TZ, value: {{ $root.Values.timeZone | quote }}}
            - {name: OVCF_NODE__ENGINE__LEDGER_URL_FILE, value: /run/secrets/ovcf-node/database-url}
            - {name: OVCF_NODE__ENGINE__ENGINE_URL_FILE, value: /run/secrets/ovcf-node/database-url}
            {{- with $root.Values.tls }}{{ if .enabled }}
            - {name: OVCF_NODE__TLS__CERTIFICATE, value: /run/secrets/ovcf-node-tls/tls.crt}
            - {name: OVCF_NODE__TLS__KEY, value: /run/secrets/ovcf-node-tls/tls.key}
            - {name: OVCF_NODE__TLS__CA, value: /run/secrets/ovcf-node-tls/ca.crt}
            {{- if .crlKey }}
            - {name: OVCF_NODE__TLS__CRL, value: /run/secrets/ovcf-node-tls/ca.crl}
            {{- end }}
            {{- if .keyPasswordKey }}
            - {name: OVCF_NODE__TLS__KEY_PASSWORD_FILE, value: /run/secrets/ovcf-node-tls/password}
            {{- end }}
            {{- end }}{{ end }}
            {{- /* Where the node listens, for every process: `check` and what the pages say are true in each pod. */}}
            - {name: OVCF_NODE__RECEIVE__PORT, value: {{ $root.Values.receiver.service.port | quote }}}
            {{- if $root.Values.tls.enabled }}
            - {name: OVCF_NODE__RECEIVE__TLS_PORT, value: {{ $root.Values.receiver.service.tlsPort | quote }}}
            - {name: OVCF_NODE__RECEIVE__PLAIN, value: {{ $root.Values.tls.plain | quote }}}
            {{- end }}
            {{- if $root.Values.query.enabled }}
            - {name: OVCF_NODE__QUERY__ENABLED, value: "true"}
            - {name: OVCF_NODE__QUERY__PORT, value: {{ $root.Values.query.port | quote }}}
            {{- if $root.Values.tls.enabled }}
            - {name: OVCF_NODE__QUERY__TLS_PORT, value: {{ $root.Values.query.tlsPort | quote }}}
            - {name: OVCF_NODE__QUERY__PLAIN, value: {{ $root.Values.tls.plain | quote }}}
            {{- end }}
            {{- end }}
            {{- with .environment }}{{ toYaml . | nindent 12 }}{{ end }}
          {{- with .ports }}
          ports:
            {{- range . }}
            - {name: {{ .name }}, containerPort: {{ .port }}}
            {{- end }}
          {{- end }}
          {{- with .probes }}{{ toYaml . | nindent 10 }}{{ end }}
          resources: {{- toYaml .resources | nindent 12 }}
          volumeMounts:
            - {name: config, mountPath: /etc/ovcf-node.toml, subPath: ovcf-node.toml, readOnly: true}
            - {name: database, mountPath: /run/secrets/ovcf-node, readOnly: true}
            - {name: data, mountPath: /var/lib/ovcf-node}
            - {name: tmp, mountPath: /tmp}
            {{- if $root.Values.tls.enabled }}
            # The folder, not its files: only so does a renewed Secret reach the process, which reads it again by itself.
            - {name: dicom-tls, mountPath: /run/secrets/ovcf-node-tls, readOnly: true}
            {{- end }}
            {{- with .mounts }}{{ toYaml . | nindent 12 }}{{ end }}
      volumes:
        - name: config
          configMap: {name: {{ $root.Release.Name }}-config}
        - name: database
          secret:
            secretName: {{ $root.Values.database.existingSecret }}
            items: [{key: {{ $root.Values.database.key }}, path: database-url}]
        - name: data
          persistentVolumeClaim:
            claimName: {{ $root.Values.storage.existingClaim | default (printf "%s-data" $root.Release.Name) }}
        - name: tmp
          emptyDir: {}
        {{- with $root.Values.tls }}{{ if .enabled }}
        - name: dicom-tls
          secret:
            secretName: {{ .existingSecret }}
            items:
              - {key: {{ .certificateKey }}, path: tls.crt}
              - {key: {{ .privateKeyKey }}, path: tls.key}
              - {key: {{ .caKey }}, path: ca.crt}
              {{- with .crlKey }}
              - {key: {{ . }}, path: ca.crl}
              {{- end }}
              {{- with .keyPasswordKey }}
              - {key: {{ . }}, path: password}
              {{- end }}
        {{- end }}{{ end }}
        {{- with .volumes }}{{ toYaml . | nindent 8 }}{{ end }}
      topologySpreadConstraints:
        # On different machines where there are any: what one machine takes down, the other goes on with.
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "ovcf-node.labels" . | nindent 14 }}
      {{- with $root.Values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}

{{- /* A Service for one role: root, role, service, ports (name, port). */ -}}
{{- define "ovcf-node.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .root.Release.Name }}-{{ .role }}
  labels: {{- include "ovcf-node.labels" . | nindent 4 }}
  {{- with .service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ .service.type }}
  {{- if and .service.externalTrafficPolicy (ne .service.type "ClusterIP") }}
  externalTrafficPolicy: {{ .service.externalTrafficPolicy }}
  {{- end }}
  {{- with .service.loadBalancerIP }}
  loadBalancerIP: {{ . }}
  {{- end }}
  selector: {{- include "ovcf-node.labels" . | nindent 4 }}
  ports:
    {{- range .ports }}
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }}}
    {{- end }}
{{- end }}
