{{/*
The ConfigMap of a dashboard, "json" in the dict. The label is what the sidecar of Grafana's Helm chart looks for;
the file is named after the ConfigMap, for all of them go into one folder there.
*/}}
{{- define "linkerd.dashboard" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "linkerd.metadata" . | nindent 2 }}
    grafana_dashboard: "1"
data:
  linkerd-{{ .component }}.json: |
    {{- .json | nindent 4 }}
{{- end -}}
