{{/* Names and labels. */}}

{{- define "handfast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of objects. Suffixes have to fit behind it: names of Services end at 63. */}}
{{- define "handfast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "handfast.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "handfast.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "handfast.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "handfast.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "handfast.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "handfast.lastGoodSecret" -}}
{{- include "handfast.fullname" . }}-last-good
{{- end -}}

{{/* Of the webhook: its Service, Secret and configuration. */}}
{{- define "handfast.webhook" -}}
{{- include "handfast.fullname" . }}-webhook
{{- end -}}

{{/* Whether the controller makes the webhook's certificate itself. */}}
{{- define "handfast.webhookSelfMade" -}}
{{- with .Values.controller.admissionWebhooks -}}
{{- if and .enabled (not .existingSecret) (not .certManager.enabled) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secrets that others make for the webhook, as a JSON list. */}}
{{- define "handfast.webhookSecrets" -}}
{{- $webhook := .Values.controller.admissionWebhooks -}}
{{- $name := include "handfast.webhook" . -}}
{{- if $webhook.existingSecret -}}{{- list $webhook.existingSecret | toJson -}}
{{- else if $webhook.certManager.enabled -}}{{- list $name (printf "%s-ca" $name) | toJson -}}
{{- else -}}[]{{- end -}}
{{- end -}}

{{- define "handfast.electionID" -}}
{{- default (printf "%s-leader" (include "handfast.fullname" .)) .Values.controller.electionID -}}
{{- end -}}

{{- define "handfast.selectorLabels" -}}
app.kubernetes.io/name: {{ include "handfast.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: controller
{{- end -}}

{{/* Of the pod of `helm test`. */}}
{{- define "handfast.testLabels" -}}
app.kubernetes.io/name: {{ include "handfast.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: test
{{- end -}}

{{/* Of everything but pods. */}}
{{- define "handfast.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "handfast.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: {{ include "handfast.name" . | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .Values.controller.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The head of an object: `dict "root" $ "name" … "namespaced" bool "labels" … "annotations" …`. */}}
{{- define "handfast.metadata" -}}
metadata:
  name: {{ .name | quote }}
  {{- if .namespace }}
  namespace: {{ .namespace | quote }}
  {{- end }}
  labels:
    {{- $labels := include "handfast.labels" .root | fromYaml }}
    {{- toYaml (mergeOverwrite $labels (.labels | default dict)) | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Whether the values name the image of ingress-nginx: then ours is meant. */}}
{{- define "handfast.foreignImage" -}}
{{- with .Values.controller.image -}}
{{- if or (contains "ingress-nginx" (default "" .image)) (contains "ingress-nginx" (default "" .repository)) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{- define "handfast.image" -}}
{{- $image := .Values.controller.image -}}
{{- $registry := default $image.registry .Values.global.image.registry -}}
{{- if eq $registry "registry.k8s.io" -}}{{- $registry = "" -}}{{- end -}}
{{- $repository := default $image.repository $image.image -}}
{{- $tag := default .Chart.AppVersion $image.tag -}}
{{- $digest := $image.digest -}}
{{- if include "handfast.foreignImage" . -}}
{{- $repository = "handfast" -}}{{- $tag = .Chart.AppVersion -}}{{- $digest = "" -}}
{{- end -}}
{{- with $registry -}}{{ . }}/{{- end -}}
{{- $repository -}}
{{- if $digest -}}@{{ $digest }}{{- else -}}:{{ $tag }}{{- end -}}
{{- end -}}

{{- define "handfast.port.http" -}}
{{- .Values.controller.containerPort.http | default (ternary 80 8080 .Values.controller.hostNetwork) | int -}}
{{- end -}}

{{- define "handfast.port.https" -}}
{{- .Values.controller.containerPort.https | default (ternary 443 8443 .Values.controller.hostNetwork) | int -}}
{{- end -}}

{{/* The lowest port that the process binds. */}}
{{- define "handfast.port.lowest" -}}
{{- $lowest := min (include "handfast.port.http" .) (include "handfast.port.https" .) .Values.controller.metrics.port -}}
{{- with .Values.controller.admissionWebhooks -}}
{{- if .enabled -}}{{- $lowest = min $lowest .port -}}{{- end -}}
{{- end -}}
{{- $lowest -}}
{{- end -}}

{{/* The namespaces that are watched, as a JSON list; empty for all. */}}
{{- define "handfast.namespaces" -}}
{{- $scope := .Values.controller.scope -}}
{{- $namespaces := list -}}
{{- if and $scope.enabled (not $scope.namespaceSelector) -}}
{{- $namespaces = $scope.namespaces -}}
{{- with $scope.namespace -}}{{- $namespaces = append $namespaces . -}}{{- end -}}
{{- $namespaces = $namespaces | default (list .Release.Namespace) | uniq | sortAlpha -}}
{{- end -}}
{{- $namespaces | toJson -}}
{{- end -}}

{{/* Whether clients come to ports of the nodes, and the Service has no address for them: its ClusterIP is none. */}}
{{- define "handfast.reachedAtNodes" -}}
{{- $controller := .Values.controller -}}
{{- $service := $controller.service -}}
{{- if and (or $controller.hostNetwork $controller.hostPort.enabled) (has $service.type (list "ClusterIP" "NodePort")) (not $service.externalIPs) -}}true{{- end -}}
{{- end -}}

{{/* The Service whose addresses are published, NAMESPACE/NAME; nothing if there is none. */}}
{{- define "handfast.publishService" -}}
{{- $service := .Values.controller.service -}}
{{- if .Values.controller.publishService.enabled -}}
{{- if .Values.controller.publishService.pathOverride -}}
{{- .Values.controller.publishService.pathOverride -}}
{{- else if and $service.enabled $service.external.enabled (not (include "handfast.reachedAtNodes" .)) -}}
{{- include "handfast.namespace" . }}/{{ include "handfast.fullname" . -}}
{{- else if and $service.enabled $service.internal.enabled -}}
{{- include "handfast.namespace" . }}/{{ include "handfast.fullname" . }}-internal
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether the addresses of nodes are published. */}}
{{- define "handfast.publishNodes" -}}
{{- $controller := .Values.controller -}}
{{- if kindIs "bool" $controller.publishNodeAddresses -}}
{{- if $controller.publishNodeAddresses -}}true{{- end -}}
{{- else if and (or $controller.hostNetwork $controller.hostPort.enabled) (not (include "handfast.publishService" .)) (not $controller.publishStatusAddress) -}}
true
{{- end -}}
{{- end -}}

{{/* Whether nothing is written to the cluster. */}}
{{- define "handfast.noStatus" -}}
{{- $args := default dict .Values.controller.extraArgs -}}
{{- if or .Values.controller.noStatus (eq (get $args "update-status" | toString) "false") -}}true{{- end -}}
{{- end -}}

{{/* Whether there is a PodDisruptionBudget. */}}
{{- define "handfast.wantsBudget" -}}
{{- $wanted := .Values.controller.podDisruptionBudget.enabled -}}
{{- if kindIs "invalid" $wanted -}}{{- include "handfast.hasSpare" . -}}
{{- else if $wanted -}}true
{{- end -}}
{{- end -}}

{{/* Whether there are two or more replicas, so that one may go. */}}
{{- define "handfast.hasSpare" -}}
{{- $controller := .Values.controller -}}
{{- if eq $controller.kind "DaemonSet" -}}true
{{- else if $controller.autoscaling.enabled -}}{{- if gt (int $controller.autoscaling.minReplicas) 1 -}}true{{- end -}}
{{- else if gt (int $controller.replicaCount) 1 -}}true
{{- end -}}
{{- end -}}
