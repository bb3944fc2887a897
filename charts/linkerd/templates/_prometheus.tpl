{{/* Whether Prometheus is installed: "true" or nothing; takes the chart's top. */}}
{{- define "linkerd.prometheusInstalled" -}}
{{- if .Values.prometheus.enabled }}{{ if not .Values.prometheus.url }}true{{ end }}{{ end }}
{{- end -}}

{{/* The configuration of Prometheus; takes the chart's top. */}}
{{- define "linkerd.prometheusConfig" -}}
global:
  scrape_interval: {{ .Values.prometheus.scrapeInterval }}
  scrape_timeout: {{ .Values.prometheus.scrapeInterval }}
  evaluation_interval: {{ .Values.prometheus.scrapeInterval }}
scrape_configs:
- job_name: prometheus
  static_configs:
  - targets: ["localhost:9090"]
# linkerd-api knows the pods, so Prometheus needs no right in the cluster.
- job_name: linkerd-controller
  http_sd_configs:
  - url: http://linkerd-api.{{ .Release.Namespace }}.svc.cluster.local:8084/prometheus/controllers
    refresh_interval: 5s
- job_name: linkerd-proxy
  http_sd_configs:
  - url: http://linkerd-api.{{ .Release.Namespace }}.svc.cluster.local:8084/prometheus/proxies
    refresh_interval: 5s
{{- end -}}
