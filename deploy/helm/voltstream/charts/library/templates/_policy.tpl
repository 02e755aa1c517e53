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
{{- range (include "voltstream.calls" . | fromYamlArray) }}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .namespace }}
      podSelector:
        matchLabels:
          app.kubernetes.io/name: {{ .service }}
          app.kubernetes.io/part-of: voltstream
  ports: [{ protocol: TCP, port: {{ .port }} }]
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

{{/* The services that it asks, with their namespaces: where one wants a token, only with that. */}}
{{- define "voltstream.calls" -}}
{{- $keys := include "voltstream.secretKeys" . | fromYamlArray -}}
{{- $found := list -}}
{{- range .Values.facts.calls -}}
{{- if or (not .token) (has .token $keys) -}}
{{- $namespace := include "voltstream.namespaceOf" (dict "name" .service "namespaces" $.Values.global.namespaces) -}}
{{- $found = append $found (merge (dict "namespace" $namespace) .) -}}
{{- end -}}
{{- end -}}
{{ toYaml $found }}
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
{{- range (include "voltstream.calls" . | fromYamlArray) }}
---
# The other end of its call: the service that it asks does not know who asks.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .service }}-from-{{ $.Chart.Name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "voltstream.labels" $ | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ .service }}
      app.kubernetes.io/part-of: voltstream
  policyTypes: [Ingress]
  ingress:
    - from:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ include "voltstream.namespace" $ }}
          podSelector:
            matchLabels:
              {{- include "voltstream.selector" $ | nindent 14 }}
      ports: [{ protocol: TCP, port: {{ .port }} }]
{{- end }}
{{- end }}
