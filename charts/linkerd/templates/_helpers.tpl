{{/*
Every helper takes a dict: "root" is the chart's top (`$`), "component" is `ca`, `destination`, `api`,
`injector` or `prometheus`. All objects of a component are named linkerd-<component>.
*/}}

{{/* Labels that never change: what selectors use. */}}
{{- define "linkerd.selectorLabels" -}}
linkerd.io/control-plane-component: linkerd-{{ .component }}
{{- end -}}

{{/* Labels of every object. Helm adds app.kubernetes.io/managed-by itself. */}}
{{- define "linkerd.labels" -}}
app.kubernetes.io/name: linkerd-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: Linkerd
{{ include "linkerd.selectorLabels" . }}
{{- end -}}

{{/*
The label by which `linkerd uninstall` and `linkerd prune` find what belongs to this control plane. Not on
pods: there it says that the pod is in the mesh.
*/}}
{{- define "linkerd.controlPlaneLabel" -}}
linkerd.io/control-plane-ns: {{ .root.Release.Namespace }}
{{- end -}}

{{/* metadata of an object in the namespace of the control plane. */}}
{{- define "linkerd.metadata" -}}
name: linkerd-{{ .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "linkerd.labels" . | nindent 2 }}
  {{- include "linkerd.controlPlaneLabel" . | nindent 2 }}
{{- end -}}

{{/* metadata of an object that has no namespace. */}}
{{- define "linkerd.clusterMetadata" -}}
name: linkerd-{{ .root.Release.Namespace }}-{{ .component }}
labels:
  {{- include "linkerd.labels" . | nindent 2 }}
  {{- include "linkerd.controlPlaneLabel" . | nindent 2 }}
{{- end -}}

{{/* The ServiceAccount of a component. */}}
{{- define "linkerd.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "linkerd.metadata" . | nindent 2 }}
{{- end -}}

{{/* The ClusterRoleBinding of a component's ServiceAccount to its ClusterRole. */}}
{{- define "linkerd.clusterRoleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  {{- include "linkerd.clusterMetadata" . | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: linkerd-{{ .root.Release.Namespace }}-{{ .component }}
subjects:
- kind: ServiceAccount
  name: linkerd-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{/* The image of one of our components. */}}
{{- define "linkerd.image" -}}
{{ .root.Values.image.registry }}/{{ .component }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/*
metadata of a pod template. The API server is reached without the proxy, so that a component that
starts, or restarts, needs nothing of the mesh; "annotations" in the dict are added.
*/}}
{{- define "linkerd.podMetadata" -}}
labels:
  {{- include "linkerd.labels" . | nindent 2 }}
annotations:
  config.linkerd.io/skip-outbound-ports: "443,6443"
  {{- with .annotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* What the pods of all components have in common, apart from their containers. */}}
{{- define "linkerd.podSpec" -}}
serviceAccountName: linkerd-{{ .component }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . | quote }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  podAntiAffinity:
    {{- if eq .root.Values.podAntiAffinity "required" }}
    requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "linkerd.selectorLabels" . | nindent 10 }}
    {{- end }}
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: {{ if eq .root.Values.podAntiAffinity "required" }}topology.kubernetes.io/zone{{ else }}kubernetes.io/hostname{{ end }}
        labelSelector:
          matchLabels:
            {{- include "linkerd.selectorLabels" . | nindent 12 }}
{{- end -}}

{{/*
How pods of a Deployment are replaced. When each needs a node of its own there may be none left for one
more: an old one goes first then. All fields are written: of those that Kubernetes fills in, kubectl says "configured" each
time.
*/}}
{{- define "linkerd.strategy" -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: 25%
  maxUnavailable: {{ if eq .root.Values.podAntiAffinity "required" }}1{{ else }}25%{{ end }}
{{- end -}}

{{/* How many pods of a component may be evicted at a time. */}}
{{- define "linkerd.podDisruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "linkerd.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .root.Values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "linkerd.selectorLabels" . | nindent 6 }}
{{- end -}}

{{/*
securityContext of a container. "uid" in the dict is its user: never that of the proxy, whose traffic
is not redirected.
*/}}
{{- define "linkerd.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop:
  - ALL
readOnlyRootFilesystem: true
runAsUser: {{ int64 .uid }}
{{- end -}}

{{/* Probes of one of our processes; "adminPort" in the dict is where it answers them. */}}
{{- define "linkerd.probes" -}}
livenessProbe:
  httpGet:
    path: /live
    port: {{ int64 .adminPort }}
  initialDelaySeconds: 10
readinessProbe:
  httpGet:
    path: /ready
    port: {{ int64 .adminPort }}
  failureThreshold: 7
  periodSeconds: 2
{{- end -}}
