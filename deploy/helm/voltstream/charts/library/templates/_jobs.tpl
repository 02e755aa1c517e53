{{/* What is no service: the migrations before an installation or upgrade, and the simulated fleet. */}}

{{- define "voltstream.jobContainer" -}}
- name: {{ .Chart.Name }}
  image: {{ include "voltstream.image" . | quote }}
  imagePullPolicy: {{ .Values.global.image.pullPolicy }}
  args: {{ toJson (concat .Values.facts.command (.Values.arguments | default list)) }}
  env:
    {{- include "voltstream.env" . | trim | nindent 4 }}
    {{- if .Values.facts.tokenVariable }}
    # The command has no option for a token by file.
    - name: {{ .Values.facts.tokenVariable }}
      valueFrom:
        secretKeyRef:
          name: {{ include "voltstream.secretName" . }}
          key: token
    {{- end }}
  resources:
    {{- include "voltstream.resources" . | nindent 4 }}
  securityContext:
    {{- include "voltstream.containerSecurity" . | nindent 4 }}
  volumeMounts:
    {{- include "voltstream.mounts" . | nindent 4 }}
{{- end -}}

{{- define "voltstream.jobPod" -}}
metadata:
  labels:
    {{- include "voltstream.podLabels" . | nindent 4 }}
spec:
  {{- include "voltstream.podSettings" . | nindent 2 }}
  restartPolicy: Never
  terminationGracePeriodSeconds: 30
  containers:
    {{- include "voltstream.jobContainer" . | nindent 4 }}
  volumes:
    {{- include "voltstream.volumes" . | nindent 4 }}
{{- end -}}

{{/* Before anything of the release is there: so its account, secret and policy are hooks too. */}}
{{- define "voltstream.migrations" -}}
{{- $before := dict "helm.sh/hook" "pre-install,pre-upgrade" "helm.sh/hook-weight" "-10" "helm.sh/hook-delete-policy" "before-hook-creation" }}
{{- $with := merge (dict "hook" $before) . }}
{{- include "voltstream.account" $with }}
{{- include "voltstream.secret" $with }}
{{- include "voltstream.policy" $with }}
---
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "voltstream.metadata" . | nindent 2 }}
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-weight: "0"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  # Migrations may be run again at any time; one that fails leaves nothing behind.
  backoffLimit: 3
  activeDeadlineSeconds: 3600
  template:
    {{- include "voltstream.jobPod" . | nindent 4 }}
{{- end -}}

{{- define "voltstream.simulator" -}}
{{- include "voltstream.account" . }}
{{- include "voltstream.secret" . }}
{{- include "voltstream.policy" . }}
---
apiVersion: batch/v1
kind: CronJob
metadata:
  {{- include "voltstream.metadata" . | nindent 2 }}
spec:
  schedule: {{ .Values.schedule | quote }}
  timeZone: Etc/UTC
  # Two fleets of one seed would be one fleet that says everything twice.
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 300
  successfulJobsHistoryLimit: 2
  failedJobsHistoryLimit: 2
  jobTemplate:
    spec:
      backoffLimit: 0
      activeDeadlineSeconds: 86400
      template:
        {{- include "voltstream.jobPod" . | nindent 8 }}
{{- end -}}
