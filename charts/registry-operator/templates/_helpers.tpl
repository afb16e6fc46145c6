{{- define "registry-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains "registry-operator" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-registry-operator" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "registry-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "registry-operator.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "registry-operator.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The network policies of clusters know the operator by the first of them: it is no value. */}}
{{- define "registry-operator.selector" -}}
app.kubernetes.io/name: registry-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "registry-operator.labels" -}}
{{ include "registry-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the operator does in the namespaces of clusters. Creating by server-side apply needs create and patch. */}}
{{- define "registry-operator.clusterRules" -}}
- apiGroups: [registry.dev]
  resources: [registryclusters]
  verbs: [get, list, watch]
- apiGroups: [registry.dev]
  resources: [registryclusters/status]
  verbs: [patch]
# Owner references that hold up the deletion of their owner; some API servers ask for the right to set them.
- apiGroups: [registry.dev]
  resources: [registryclusters/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
# Labels the roles of members; deletes to roll and to repair. The set makes the pods and claims.
- apiGroups: [""]
  resources: [pods, persistentvolumeclaims]
  verbs: [get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# The admin token of each cluster: made once, read by name; never listed, never changed.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Why a set cannot make its pods (FailedCreate).
- apiGroups: [""]
  resources: [events]
  verbs: [list]
{{- end -}}
