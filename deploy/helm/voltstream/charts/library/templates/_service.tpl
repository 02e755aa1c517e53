{{/* Everything of a service. */}}
{{- define "voltstream.service" -}}
{{- include "voltstream.account" . }}
{{- include "voltstream.secret" . }}
{{- include "voltstream.workload" . }}
{{- include "voltstream.kubernetesService" . }}
{{- include "voltstream.policy" . }}
{{- include "voltstream.disruption" . }}
{{- include "voltstream.autoscaler" . }}
{{- include "voltstream.monitor" . }}
{{- end -}}

{{- define "voltstream.account" }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "voltstream.metadata" . | nindent 2 }}
  {{- with .hook }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}

{{/* Only where values have the secrets, as in development. Else the Secret is there before: voltstream-NAME. */}}
{{- define "voltstream.secret" }}
{{- $own := .Values.secrets | default dict }}
{{- if and .Values.global.secrets.create (not $own.existing) }}
{{- $values := merge (dict) ($own.values | default dict) .Values.global.secrets.values }}
---
apiVersion: v1
kind: Secret
metadata:
  name: {{ include "voltstream.secretName" . }}
  namespace: {{ include "voltstream.namespace" . }}
  labels:
    {{- include "voltstream.labels" . | nindent 4 }}
  {{- with .hook }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
type: Opaque
stringData:
  {{- range (include "voltstream.secretKeys" . | fromYamlArray) }}
  {{ . }}: {{ get $values . | required (printf "%s: no value for the secret %s" $.Chart.Name .) | quote }}
  {{- end }}
  {{- if .Values.facts.tokenVariable }}
  token: {{ get $values "token" | required (printf "%s: no value for the secret token" .Chart.Name) | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "voltstream.replicas" -}}
{{- if hasKey .Values "replicas" -}}{{ .Values.replicas }}{{- else -}}{{ .Values.global.defaults.replicas }}{{- end -}}
{{- end -}}

{{- define "voltstream.autoscaling" -}}
{{ toYaml (merge (dict) (.Values.autoscaling | default dict) .Values.global.defaults.autoscaling) }}
{{- end -}}

{{- define "voltstream.workload" }}
{{- $scales := (include "voltstream.autoscaling" . | fromYaml).enabled }}
---
apiVersion: apps/v1
kind: {{ .Values.facts.ordered | ternary "StatefulSet" "Deployment" }}
metadata:
  {{- include "voltstream.metadata" . | nindent 2 }}
spec:
  {{- if not $scales }}
  replicas: {{ include "voltstream.replicas" . }}
  {{- end }}
  revisionHistoryLimit: 5
  selector:
    matchLabels:
      {{- include "voltstream.selector" . | nindent 6 }}
  {{- if .Values.facts.ordered }}
  # One at a time, the old one gone before the new one comes: a member more than there are partitions is never ready,
  # and each that joins or leaves stops the group for a moment.
  serviceName: {{ .Chart.Name }}
  podManagementPolicy: Parallel
  updateStrategy:
    type: RollingUpdate
  {{- else }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 1
      maxSurge: 1
  {{- if .Values.facts.serves }}
  # Whoever routes to pods notices within the drain that one is to stop; a new one counts after as long, so that it is
  # known before the next is stopped.
  minReadySeconds: {{ .Values.global.drainSeconds }}
  {{- end }}
  {{- end }}
  template:
    metadata:
      labels:
        {{- include "voltstream.podLabels" . | nindent 8 }}
      annotations:
        {{- if not .Values.global.monitoring.enabled }}
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ .Values.facts.port | quote }}
        prometheus.io/path: {{ .Values.facts.probes.metrics }}
        {{- end }}
        {{- if .Values.global.secrets.create }}
        # URLs of servers are read again when their files change; a new value of another secret wants new processes.
        voltstream/secrets: {{ include "voltstream.secret" . | sha256sum | trunc 16 | quote }}
        {{- end }}
        kubectl.kubernetes.io/default-container: {{ .Chart.Name }}
        {{- with .Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "voltstream.podSettings" . | nindent 6 }}
      # What a process may take to stop in good order; before, one that serves routes drains, and waits as long again for
      # connections to fall silent.
      terminationGracePeriodSeconds: {{ add .Values.facts.stopSeconds (.Values.facts.serves | ternary (mul 2 .Values.global.drainSeconds) 0) 15 }}
      topologySpreadConstraints:
        {{- include "voltstream.spread" . | trim | nindent 8 }}
      containers:
        {{- include "voltstream.serviceContainer" . | nindent 8 }}
      volumes:
        {{- include "voltstream.volumes" . | nindent 8 }}
{{- end }}

{{- define "voltstream.kubernetesService" }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "voltstream.metadata" . | nindent 2 }}
spec:
  {{- if .Values.facts.ordered }}
  clusterIP: None
  {{- else }}
  type: ClusterIP
  {{- end }}
  selector:
    {{- include "voltstream.selector" . | nindent 4 }}
  ports:
    - name: http
      port: {{ .Values.facts.port }}
      targetPort: http
      protocol: TCP
      appProtocol: http
{{- end }}

{{- define "voltstream.disruption" }}
{{- if or (gt (include "voltstream.replicas" . | int) 1) (include "voltstream.autoscaling" . | fromYaml).enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "voltstream.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  # A pod that is not ready serves nobody: it never keeps a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "voltstream.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{- define "voltstream.monitor" }}
{{- if .Values.global.monitoring.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "voltstream.metadata" . | nindent 2 }}
  {{- with .Values.global.monitoring.labels }}
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  jobLabel: app.kubernetes.io/part-of # voltstream: the objectives are of one job
  selector:
    matchLabels:
      {{- include "voltstream.selector" . | nindent 6 }}
  endpoints:
    - port: http
      path: {{ .Values.facts.probes.metrics }}
      interval: 15s
{{- end }}
{{- end }}
