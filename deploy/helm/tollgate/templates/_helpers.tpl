{{- define "tollgate.name" -}}
{{- if eq .Release.Name "tollgate" -}}tollgate{{- else -}}{{ printf "%s-tollgate" .Release.Name | trunc 63 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{- define "tollgate.selector" -}}
app.kubernetes.io/name: tollgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tollgate.labels" -}}
{{ include "tollgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* What the pod needs, under the keys of `tollgate settings`; the chart's `settings` go before it. */}}
{{- define "tollgate.settings" -}}
{{- $settings := dict
  "grpc_addr" ":8081"
  "http_addr" ":8080"
  "admin_grpc_addr" "127.0.0.1:8082"
  "data_dir" (ternary "/var/lib/tollgate/data" ":memory:" .Values.volume.enabled)
  "log_format" "json"
  "grpc.workers" (.Values.workers | int64)
  "engine.max_counters" (.Values.maxCounters | int64)
  "ledger.max_windows" (div (.Values.maxCounters | int64) 2)
  "grpc.max_pending_bytes" 67108864
-}}
{{- if not (hasKey .Values.settings "xds.server") -}}
{{- $_ := set $settings "rules" "/etc/tollgate/rules" -}}
{{- end -}}
{{- if .Values.tokensSecret -}}
{{- $_ := set $settings "auth.tokens_file" "/etc/tollgate/auth/tokens.yaml" -}}
{{- end -}}
{{- toJson $settings -}}
{{- end -}}
