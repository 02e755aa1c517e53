{{- define "foundation.labels" -}}
app.kubernetes.io/name: foundation
app.kubernetes.io/part-of: voltstream
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "foundation.serverLabels" -}}
{{ include "foundation.labels" .root }}
voltstream/server: {{ .server }}
{{- end -}}
