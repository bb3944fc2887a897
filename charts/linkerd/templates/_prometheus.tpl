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

# The processes of the control plane.
- job_name: linkerd-controller
  kubernetes_sd_configs:
  - role: pod
    namespaces:
      names: ["{{ .Release.Namespace }}"]
  relabel_configs:
  - source_labels: [__meta_kubernetes_pod_container_port_name]
    action: keep
    regex: admin-http
  # Prometheus itself is above.
  - source_labels: [__meta_kubernetes_pod_container_name]
    action: drop
    regex: prometheus
  - source_labels: [__meta_kubernetes_pod_container_name]
    action: replace
    target_label: component
  - source_labels: [__meta_kubernetes_namespace]
    action: replace
    target_label: namespace
  - source_labels: [__meta_kubernetes_pod_name]
    action: replace
    target_label: pod

# The proxies of this control plane, in every namespace.
- job_name: linkerd-proxy
  kubernetes_sd_configs:
  - role: pod
  relabel_configs:
  - source_labels:
    - __meta_kubernetes_pod_container_name
    - __meta_kubernetes_pod_container_port_name
    - __meta_kubernetes_pod_label_linkerd_io_control_plane_ns
    action: keep
    regex: linkerd-proxy;linkerd-metrics;{{ .Release.Namespace }}
  # Pods of Jobs that have ended.
  - source_labels: [__meta_kubernetes_pod_phase]
    action: drop
    regex: Failed|Succeeded
  - source_labels: [__meta_kubernetes_namespace]
    action: replace
    target_label: namespace
  - source_labels: [__meta_kubernetes_pod_name]
    action: replace
    target_label: pod
  # Prometheus itself has a label `job`.
  - source_labels: [__meta_kubernetes_pod_label_linkerd_io_proxy_job]
    action: replace
    target_label: k8s_job
  - action: labeldrop
    regex: __meta_kubernetes_pod_label_linkerd_io_proxy_job
  # linkerd.io/proxy-deployment: web becomes deployment="web".
  - action: labelmap
    regex: __meta_kubernetes_pod_label_linkerd_io_proxy_(.+)
  - action: labeldrop
    regex: __meta_kubernetes_pod_label_linkerd_io_proxy_(.+)
  # linkerd.io/control-plane-ns: linkerd becomes control_plane_ns="linkerd".
  - action: labelmap
    regex: __meta_kubernetes_pod_label_linkerd_io_(.+)
{{- end -}}
