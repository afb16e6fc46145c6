{{- define "registry-cluster.name" -}}
{{- .Values.name | default .Release.Name -}}
{{- end -}}

{{/* Takes what is null, and maps that hold nothing else, out of a map. */}}
{{- define "registry-cluster.prune" -}}
{{- range $key, $value := . -}}
{{- if kindIs "map" $value -}}
{{- include "registry-cluster.prune" $value -}}
{{- end -}}
{{- if or (kindIs "invalid" $value) (and (or (kindIs "map" $value) (kindIs "slice" $value)) (empty $value)) -}}
{{- $_ := unset $ $key -}}
{{- end -}}
{{- end -}}
{{- end -}}
