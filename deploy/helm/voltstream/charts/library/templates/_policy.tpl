{{/* Exactly the arrows that a service's declaration and its settings make; all else is denied. */}}

{{- define "voltstream.ingressRules" -}}
{{- $g := .Values.global -}}
{{- if and .Values.facts.paths $g.ingress.enabled }}
- from:
    {{- toYaml $g.ingress.peers | nindent 4 }}
  ports: [{ protocol: TCP, port: {{ .Values.facts.port }} }]
{{- end }}
- from:
    {{- toYaml $g.monitoring.peers | nindent 4 }}
  ports: [{ protocol: TCP, port: {{ .Values.facts.port }} }]
{{- range .Values.facts.callers }}
- from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ include "voltstream.namespaceOf" (dict "name" . "namespaces" $g.namespaces) }}
      podSelector:
        matchLabels:
          app.kubernetes.io/name: {{ . }}
          app.kubernetes.io/part-of: voltstream
  ports: [{ protocol: TCP, port: {{ $.Values.facts.port }} }]
{{- end }}
{{- end -}}

{{- define "voltstream.egressRules" -}}
{{- $g := .Values.global -}}
{{- $keys := include "voltstream.secretKeys" . | fromYamlArray -}}
{{- $settings := include "voltstream.settings" . | fromYaml -}}
{{- $files := include "voltstream.files" . | fromYaml -}}
- to:
    {{- toYaml $g.dns.peers | nindent 4 }}
  ports: [{ protocol: UDP, port: 53 }, { protocol: TCP, port: 53 }]
{{- range (include "voltstream.connects" . | fromYamlArray) }}
{{- $server := get $g.servers (. | trimSuffix "_url") }}
- to:
    {{- toYaml $server.peers | nindent 4 }}
  ports: [{ protocol: TCP, port: {{ $server.port }} }]
{{- end }}
{{- range .Values.facts.calls }}
{{- if or (not .token) (has .token $keys) }}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ include "voltstream.namespaceOf" (dict "name" .service "namespaces" $g.namespaces) }}
      podSelector:
        matchLabels:
          app.kubernetes.io/name: {{ .service }}
          app.kubernetes.io/part-of: voltstream
  ports: [{ protocol: TCP, port: {{ .port }} }]
{{- end }}
{{- end }}
{{- $outside := dict }}
{{- range .Values.facts.outside }}
{{- if or (has .setting $keys) (get $settings .setting) (hasKey $files .setting) }}
{{- $port := .port }}
{{- if .portSetting }}{{- $port = get $settings .portSetting | default .port }}{{- end }}
{{- $_ := set $outside (printf "%s/%v" .peers $port) (dict "peers" .peers "port" $port) }}
{{- end }}
{{- end }}
{{- range $_, $it := $outside }}
- to:
    {{- toYaml (get $g.peers $it.peers) | nindent 4 }}
  ports: [{ protocol: TCP, port: {{ $it.port }} }]
{{- end }}
{{- end -}}

{{- define "voltstream.policy" }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "voltstream.metadata" . | nindent 2 }}
  {{- with .hook }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  podSelector:
    matchLabels:
      {{- include "voltstream.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- if .Values.facts.port }}
    {{- include "voltstream.ingressRules" . | trim | nindent 4 }}
    {{- else }} []
    {{- end }}
  egress:
    {{- include "voltstream.egressRules" . | trim | nindent 4 }}
{{- end }}
