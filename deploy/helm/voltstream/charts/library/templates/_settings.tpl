{{/* The settings of a process: plain ones as variables, secrets and other files by the path of a file. */}}

{{/* Those of the service, and of `global` those that the service reads. */}}
{{- define "voltstream.settings" -}}
{{- $found := dict -}}
{{- range $name, $value := .Values.global.settings -}}
{{- if has $name $.Values.facts.settings -}}{{- $_ := set $found $name $value -}}{{- end -}}
{{- end -}}
{{- range $name, $value := (.Values.settings | default dict) -}}{{- $_ := set $found $name $value -}}{{- end -}}
{{ toYaml $found }}
{{- end -}}

{{/* Names of the secrets that its pods mount: those that it cannot do without, and those that are chosen. */}}
{{- define "voltstream.secretKeys" -}}
{{- $own := .Values.secrets | default dict -}}
{{ toYaml (concat .Values.facts.connects ($own.optional | default list) | uniq | sortAlpha) }}
{{- end -}}

{{/* Settings of the servers that it connects to. MongoDB, which no service needs, is among the chosen secrets. */}}
{{- define "voltstream.connects" -}}
{{- $found := .Values.facts.connects -}}
{{- if has "mongodb_url" (include "voltstream.secretKeys" . | fromYamlArray) -}}{{- $found = append $found "mongodb_url" -}}{{- end -}}
{{ toYaml $found }}
{{- end -}}

{{- define "voltstream.secretName" -}}
{{- $own := .Values.secrets | default dict -}}
{{- $own.existing | default (printf "voltstream-%s" .Chart.Name) -}}
{{- end -}}

{{- define "voltstream.files" -}}
{{- $found := dict -}}
{{- range $name, $file := .Values.global.files -}}
{{- if has $name $.Values.facts.files -}}{{- $_ := set $found $name $file -}}{{- end -}}
{{- end -}}
{{- range $name, $file := (.Values.files | default dict) -}}{{- $_ := set $found $name $file -}}{{- end -}}
{{ toYaml $found }}
{{- end -}}

{{- define "voltstream.variable" -}}
VOLTSTREAM_{{ . | upper }}
{{- end -}}

{{- define "voltstream.env" -}}
{{- $keys := include "voltstream.secretKeys" . | fromYamlArray -}}
{{- $settings := include "voltstream.settings" . | fromYaml -}}
{{- range $name := keys $settings | sortAlpha }}
{{- $value := get $settings $name }}
- name: {{ include "voltstream.variable" $name }}
  value: {{ (or (kindIs "map" $value) (kindIs "slice" $value)) | ternary (toJson $value) (include "voltstream.text" $value) | quote }}
{{- end }}
{{- range $keys }}
- name: {{ include "voltstream.variable" . }}_FILE
  value: /etc/voltstream/secrets/{{ . }}
{{- end }}
{{- range $name, $file := (include "voltstream.files" . | fromYaml) }}
- name: {{ include "voltstream.variable" $name }}
  value: /etc/voltstream/files/{{ $name }}/{{ $file.key }}
{{- end }}
{{- if .Values.facts.kafkaAddress }}
# It does not connect to Kafka: the setting says that frames travel through it, and has no login.
- name: VOLTSTREAM_KAFKA_URL
  value: {{ .Values.global.servers.kafka.address | quote }}
{{- end }}
{{- if .Values.facts.followsConfig }}
- name: VOLTSTREAM_CONFIG_DIR
  value: /etc/voltstream/config
{{- end }}
{{- if .Values.facts.serves }}
- name: VOLTSTREAM_DRAIN_S
  value: {{ .Values.global.drainSeconds | quote }}
{{- if .Values.global.ingress.clientCertificates }}
- name: VOLTSTREAM_CLIENT_CERTIFICATE_HEADER
  value: ssl-client-cert
{{- end }}
{{- with .Values.global.ingress.host }}
- name: VOLTSTREAM_HOSTS
  value: {{ printf "%s,%s.%s.svc" . $.Chart.Name (include "voltstream.namespace" $) | quote }}
{{- end }}
{{- end }}
{{- range (include "voltstream.calls" . | fromYamlArray) }}
- name: {{ .variable }}
  value: http://{{ .service }}.{{ .namespace }}.svc:{{ .port }}
{{- end }}
- name: VOLTSTREAM_DATA_DIR
  value: /var/lib/voltstream
{{- if .Values.facts.port }}
- name: VOLTSTREAM_HOST
  value: 0.0.0.0
{{- end }}
{{- end -}}

{{/* Numbers as they were written: a float of a whole number has no exponent. */}}
{{- define "voltstream.text" -}}
{{- if kindIs "float64" . -}}{{- if eq (floor .) . -}}{{- printf "%.0f" . -}}{{- else -}}{{- . -}}{{- end -}}{{- else -}}{{- . -}}{{- end -}}
{{- end -}}

{{- define "voltstream.mounts" -}}
- name: temporary
  mountPath: /tmp
- name: data
  mountPath: /var/lib/voltstream
{{- if (include "voltstream.secretKeys" . | fromYamlArray) }}
- name: secrets
  mountPath: /etc/voltstream/secrets
  readOnly: true
{{- end }}
{{- if .Values.facts.followsConfig }}
- name: config
  mountPath: /etc/voltstream/config
  readOnly: true
{{- end }}
{{- range $name, $_ := (include "voltstream.files" . | fromYaml) }}
- name: {{ $name | replace "_" "-" }}
  mountPath: /etc/voltstream/files/{{ $name }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "voltstream.volumes" -}}
- name: temporary
  emptyDir:
    sizeLimit: 256Mi
- name: data
  emptyDir:
    sizeLimit: 256Mi
{{- with (include "voltstream.secretKeys" . | fromYamlArray) }}
- name: secrets
  secret:
    secretName: {{ include "voltstream.secretName" $ }}
    # Root's, and with fsGroup readable by the pod's group alone.
    defaultMode: 0400
    items:
      {{- range . }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}
{{- if .Values.facts.followsConfig }}
- name: config
  configMap:
    name: voltstream-adjustables
{{- end }}
{{- range $name, $file := (include "voltstream.files" . | fromYaml) }}
- name: {{ $name | replace "_" "-" }}
  {{- if $file.secret }}
  secret:
    secretName: {{ $file.secret }}
    defaultMode: 0400
    items: [{ key: {{ $file.key | quote }}, path: {{ $file.key | quote }} }]
  {{- else }}
  configMap:
    name: {{ $file.configMap }}
    items: [{ key: {{ $file.key | quote }}, path: {{ $file.key | quote }} }]
  {{- end }}
{{- end }}
{{- end -}}
