{{/* What both Services have in common: `dict "root" $ "service" values "fallback" values`. */}}
{{- define "handfast.serviceSpec" -}}
{{- $service := .service -}}
{{- $root := .root -}}
type: {{ .type }}
{{- with $service.clusterIP }}
clusterIP: {{ . | quote }}
{{- end }}
{{- range $key := list "clusterIPs" "externalIPs" "loadBalancerSourceRanges" "ipFamilies" }}
{{- with get $service $key }}
{{ $key }}:
{{ toYaml . }}
{{- end }}
{{- end }}
{{- range $key := list "loadBalancerIP" "loadBalancerClass" "externalTrafficPolicy" "sessionAffinity" "trafficDistribution" "ipFamilyPolicy" }}
{{- with get $service $key }}
{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- if kindIs "bool" $service.allocateLoadBalancerNodePorts }}
allocateLoadBalancerNodePorts: {{ $service.allocateLoadBalancerNodePorts }}
{{- end }}
{{- with $service.healthCheckNodePort }}
healthCheckNodePort: {{ int . }}
{{- end }}
ports:
{{- $outside := $root.Values.controller.service }}
{{- range $name := list "http" "https" }}
{{- if get $outside (printf "enable%s" (title $name)) }}
- name: {{ $name }}
  port: {{ get $service.ports $name | default (get $outside.ports $name) | int }}
  protocol: TCP
  targetPort: {{ get $service.targetPorts $name | default (get $outside.targetPorts $name) }}
  {{- if $service.appProtocol }}
  appProtocol: {{ $name }}
  {{- end }}
  {{- if ne $.type "ClusterIP" }}
  {{- with get $service.nodePorts $name }}
  nodePort: {{ int . }}
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}
selector:
  {{- include "handfast.selectorLabels" $root | nindent 2 }}
{{- end -}}
