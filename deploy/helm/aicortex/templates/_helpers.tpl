{{- define "aicortex.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "aicortex.labels" -}}
app.kubernetes.io/name: aicortex
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
