{{/* Names, labels and namespaces. A chart is named as its service, and its objects are too. */}}

{{- define "voltstream.namespaceOf" -}}
{{- get .namespaces.of .name | default .namespaces.default -}}
{{- end -}}

{{- define "voltstream.namespace" -}}
{{- include "voltstream.namespaceOf" (dict "name" .Chart.Name "namespaces" .Values.global.namespaces) -}}
{{- end -}}

{{- define "voltstream.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/part-of: voltstream
{{- end -}}

{{- define "voltstream.labels" -}}
{{ include "voltstream.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Of pods: also the servers that they connect to, by which the servers' policies let them in. */}}
{{- define "voltstream.podLabels" -}}
{{ include "voltstream.labels" . }}
{{- range (include "voltstream.connects" . | fromYamlArray) }}
voltstream/{{ . | trimSuffix "_url" }}: client
{{- end }}
{{- end -}}

{{- define "voltstream.metadata" -}}
name: {{ .Chart.Name }}
namespace: {{ include "voltstream.namespace" . }}
labels:
  {{- include "voltstream.labels" . | nindent 2 }}
{{- end -}}

{{- define "voltstream.image" -}}
{{- $image := .Values.global.image -}}
{{- $tag := $image.tag | default .Chart.AppVersion -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}
