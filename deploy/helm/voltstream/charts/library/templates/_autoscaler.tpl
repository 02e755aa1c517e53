{{/* By processor time; by what waits in its queues; workers by the frames that wait, and by Kafka's lag. */}}
{{- define "voltstream.autoscaler" }}
{{- $it := include "voltstream.autoscaling" . | fromYaml }}
{{- if $it.enabled }}
{{- $least := include "voltstream.replicas" . | int }}
{{- $partitions := .Values.global.settings.partitions | int }}
{{- if and .Values.facts.ordered (gt (int $it.max) $partitions) }}
{{- fail (printf "%s: autoscaling.max %d is above the %d partitions: a member without one is of no use" .Chart.Name (int $it.max) $partitions) }}
{{- end }}
{{- if lt (int $it.max) $least }}
{{- fail (printf "%s: autoscaling.max %d is below replicas %d" .Chart.Name (int $it.max) $least) }}
{{- end }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "voltstream.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .Values.facts.ordered | ternary "StatefulSet" "Deployment" }}
    name: {{ .Chart.Name }}
  minReplicas: {{ $least }}
  maxReplicas: {{ $it.max }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ $it.cpuPercent }}
    {{- if and .Values.facts.queues $it.queuedEvents }}
    - type: External
      external:
        metric:
          name: rabbitmq_queue_messages_ready
          selector:
            matchExpressions:
              - key: queue
                operator: In
                values: {{ toJson .Values.facts.queues }}
        target:
          type: AverageValue
          averageValue: {{ $it.queuedEvents | quote }}
    {{- end }}
    {{- if and .Values.facts.ordered $it.waitingFrames }}
    - type: Pods
      pods:
        metric:
          name: streams_waiting_frames
        target:
          type: AverageValue
          averageValue: {{ $it.waitingFrames | quote }}
    {{- end }}
    {{- if and .Values.facts.ordered $it.lagRecords }}
    - type: External
      external:
        metric:
          name: streams_lag_records
        target:
          type: AverageValue
          averageValue: {{ $it.lagRecords | quote }}
    {{- end }}
  behavior:
    scaleUp:
      stabilizationWindowSeconds: 30
      policies: [{ type: Pods, value: 2, periodSeconds: 60 }]
    # A worker that leaves stops its group for a moment, so it leaves once it has not been needed for a while.
    scaleDown:
      stabilizationWindowSeconds: 600
      policies: [{ type: Pods, value: 1, periodSeconds: 120 }]
{{- end }}
{{- end }}
