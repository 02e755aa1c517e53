{{/* The parts of a pod that all of them have. */}}

{{- define "voltstream.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.global.user }}
runAsGroup: {{ .Values.global.user }}
fsGroup: {{ .Values.global.user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "voltstream.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "voltstream.resources" -}}
{{ toYaml (.Values.resources | default .Values.global.defaults.resources) }}
{{- end -}}

{{/* What stands around the containers. */}}
{{- define "voltstream.podSettings" -}}
serviceAccountName: {{ .Chart.Name }}
automountServiceAccountToken: false
# A Service named voltstream-… would make variables that no setting knows.
enableServiceLinks: false
securityContext:
  {{- include "voltstream.podSecurity" . | nindent 2 }}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "voltstream.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
{{- end -}}

{{- define "voltstream.serviceContainer" -}}
- name: {{ .Chart.Name }}
  image: {{ include "voltstream.image" . | quote }}
  imagePullPolicy: {{ .Values.global.image.pullPolicy }}
  args: {{ toJson .Values.facts.command }}
  ports:
    - name: http
      containerPort: {{ .Values.facts.port }}
      protocol: TCP
  env:
    {{- include "voltstream.env" . | trim | nindent 4 }}
  resources:
    {{- include "voltstream.resources" . | nindent 4 }}
  securityContext:
    {{- include "voltstream.containerSecurity" . | nindent 4 }}
  volumeMounts:
    {{- include "voltstream.mounts" . | nindent 4 }}
  # It waits for its servers before it listens.
  startupProbe:
    {{- include "voltstream.probe" (dict "path" .Values.facts.probes.alive) | nindent 4 }}
    periodSeconds: 2
    timeoutSeconds: 2
    failureThreshold: {{ div .Values.facts.startSeconds 2 }}
  livenessProbe:
    {{- include "voltstream.probe" (dict "path" .Values.facts.probes.alive) | nindent 4 }}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  # Each check of /ready ends after 2 s.
  readinessProbe:
    {{- include "voltstream.probe" (dict "path" .Values.facts.probes.ready) | nindent 4 }}
    periodSeconds: 5
    timeoutSeconds: 4
    failureThreshold: 2
{{- end -}}

{{- define "voltstream.spread" -}}
{{- range $key, $when := .Values.global.spread }}
- topologyKey: {{ $key }}
  maxSkew: 1
  whenUnsatisfiable: {{ $when }}
  labelSelector:
    matchLabels:
      {{- include "voltstream.selector" $ | nindent 6 }}
{{- end }}
{{- end -}}
