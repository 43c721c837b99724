{{/* The command line. */}}

{{/* What controller.config of ingress-nginx and flags of its controller are called here. */}}
{{- define "handfast.translations" -}}
config:
  use-proxy-protocol: proxy-protocol
  upstream-keepalive-connections: upstream-keepalive
seconds:
  client-body-timeout: body-timeout
  client-header-timeout: header-timeout
  keep-alive: keep-alive
  proxy-connect-timeout: connect-timeout
  proxy-read-timeout: read-timeout
  proxy-send-timeout: send-timeout
args:
  default-ssl-certificate: default-tls-secret
  report-node-internal-ip-address: report-node-internal-ip
{{- end -}}

{{/* All options but `run` itself, as a map; what controller.extraArgs says wins. */}}
{{- define "handfast.args" -}}
{{- $controller := .Values.controller -}}
{{- $webhook := $controller.admissionWebhooks -}}
{{- $listen := $controller.bindAddress -}}
{{- $args := dict
  "source" "cluster"
  "http" (printf "%s:%s" $listen (include "handfast.port.http" .))
  "https" (printf "%s:%s" $listen (include "handfast.port.https" .))
  "admin" (printf "%s:%d" $listen (int $controller.metrics.port))
  "controller-class" $controller.ingressClassResource.controllerValue
  "ingress-class" (default $controller.ingressClassResource.name $controller.ingressClass)
  "unready-delay" (printf "%ds" (int $controller.unreadyDelaySeconds))
  "drain-timeout" (printf "%ds" (int (include "handfast.drainSeconds" .)))
  "log" $controller.logLevel
  "log-format" $controller.logFormat
  "access-log" $controller.accessLog
-}}
{{- $adopt := $controller.adoptClass -}}
{{- if $controller.ingressClassByName -}}{{- $adopt = append $adopt (default $controller.ingressClassResource.name $controller.ingressClass) | uniq -}}{{- end -}}
{{- with $adopt -}}{{- $_ := set $args "adopt-class" (join "," .) -}}{{- end -}}
{{- if $controller.watchIngressWithoutClass -}}{{- $_ := set $args "watch-ingress-without-class" "true" -}}{{- end -}}
{{- with include "handfast.namespaces" . | fromJsonArray -}}{{- $_ := set $args "watch-namespace" (join "," .) -}}{{- end -}}
{{- if and $controller.scope.enabled $controller.scope.namespaceSelector -}}
{{- $_ := set $args "watch-namespace-selector" $controller.scope.namespaceSelector -}}
{{- end -}}
{{- with $controller.defaultTlsSecret -}}{{- $_ := set $args "default-tls-secret" . -}}{{- end -}}
{{- with $controller.defaultTlsPolicy -}}{{- $_ := set $args "default-tls-policy" . -}}{{- end -}}
{{- with $controller.defaultShadowTlsPolicy -}}{{- $_ := set $args "default-shadow-tls-policy" . -}}{{- end -}}
{{- with $controller.minTlsVersion -}}{{- $_ := set $args "min-tls-version" . -}}{{- end -}}
{{- with $controller.trustedProxies -}}{{- $_ := set $args "trusted-proxies" (join "," .) -}}{{- end -}}
{{- if $controller.proxyProtocol -}}{{- $_ := set $args "proxy-protocol" "true" -}}{{- end -}}
{{- if and $controller.service.enabled (ne (int $controller.service.ports.https) 443) -}}
{{- $_ := set $args "https-public-port" (int $controller.service.ports.https) -}}
{{- end -}}
{{- with $controller.workers -}}{{- $_ := set $args "workers" (int .) -}}{{- end -}}
{{- if or $controller.lastGood.enabled (not (include "handfast.noStatus" .)) -}}
{{- $_ := set $args "election-id" (include "handfast.electionID" .) -}}
{{- with $controller.electionTTL -}}{{- $_ := set $args "election-ttl" . -}}{{- end -}}
{{- end -}}
{{- if include "handfast.noStatus" . -}}
{{- $_ := set $args "no-status" "true" -}}
{{- else -}}
{{- if $controller.updateStatusOnShutdown -}}{{- $_ := set $args "update-status-on-shutdown" "true" -}}{{- end -}}
{{- with $controller.publishStatusAddress -}}{{- $_ := set $args "publish-status-address" (join "," .) -}}{{- end -}}
{{- if include "handfast.publishNodes" . -}}
{{- $_ := set $args "publish-node-addresses" "true" -}}
{{- if $controller.reportNodeInternalIp -}}{{- $_ := set $args "report-node-internal-ip" "true" -}}{{- end -}}
{{- else -}}
{{- with include "handfast.publishService" . -}}{{- $_ := set $args "publish-service" . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if $controller.lastGood.enabled -}}{{- $_ := set $args "last-good-secret" (include "handfast.lastGoodSecret" .) -}}{{- end -}}
{{- if $controller.state.enabled -}}{{- $_ := set $args "state-dir" "/var/lib/handfast/state" -}}{{- end -}}
{{- if $webhook.enabled -}}
{{- $_ := set $args "webhook-addr" (printf "%s:%d" $listen (int $webhook.port)) -}}
{{- if $webhook.deny -}}{{- $_ := set $args "webhook-deny" "true" -}}{{- end -}}
{{- if include "handfast.webhookSelfMade" . -}}
{{- $_ := set $args "webhook-secret" (include "handfast.webhook" .) -}}
{{- $_ := set $args "webhook-service" (include "handfast.webhook" .) -}}
{{- $_ := set $args "webhook-configuration" (include "handfast.webhook" .) -}}
{{- else -}}
{{- $_ := set $args "webhook-cert" "/etc/handfast/webhook/tls.crt" -}}
{{- $_ := set $args "webhook-key" "/etc/handfast/webhook/tls.key" -}}
{{- end -}}
{{- if $webhook.clientCA.configMap -}}
{{- $_ := set $args "webhook-client-ca" (printf "/etc/handfast/webhook-client-ca/%s" $webhook.clientCA.key) -}}
{{- end -}}
{{- end -}}
{{- $translations := include "handfast.translations" . | fromYaml -}}
{{- $config := default dict $controller.config -}}
{{- range $key, $name := $translations.config -}}
{{- if hasKey $config $key -}}{{- $_ := set $args $name (get $config $key | toString) -}}{{- end -}}
{{- end -}}
{{- range $key, $name := $translations.seconds -}}
{{- if hasKey $config $key -}}{{- $_ := set $args $name (printf "%ds" (get $config $key | int)) -}}{{- end -}}
{{- end -}}
{{- if and (eq (get $config "use-forwarded-headers" | toString) "true") (not $controller.trustedProxies) -}}
{{- $_ := set $args "trusted-proxies" (get $config "proxy-real-ip-cidr" | default "0.0.0.0/0,::/0") -}}
{{- end -}}
{{- with get $config "worker-processes" | toString -}}
{{- if regexMatch "^[0-9]+$" . -}}{{- $_ := set $args "workers" . -}}{{- end -}}
{{- end -}}
{{- range $name, $value := $controller.extraArgs -}}
{{- if not (has $name (include "handfast.flags.meaningless" $ | fromYamlArray)) -}}
{{- $text := ternary "" (toString $value) (kindIs "invalid" $value) -}}
{{- if kindIs "float64" $value -}}{{- $text = printf "%.0f" $value -}}{{- end -}}
{{- $_ := set $args (get $translations.args $name | default $name) $text -}}
{{- end -}}
{{- end -}}
{{- toYaml $args -}}
{{- end -}}

{{/* What is left of the grace period, with time for the last writes. */}}
{{- define "handfast.drainSeconds" -}}
{{- sub (int .Values.controller.terminationGracePeriodSeconds) (add 15 (int .Values.controller.unreadyDelaySeconds)) -}}
{{- end -}}

{{/* Every option of `handfast run`; a test holds them equal to what the program knows. */}}
{{- define "handfast.flags" -}}
- access-log
- addresses-file
- admin
- admin-expose-api
- adopt-class
- allow-external-name
- allow-keylog
- body-timeout
- connect-timeout
- context
- controller-class
- default-shadow-tls-policy
- default-tls-policy
- default-tls-secret
- drain-timeout
- election-id
- election-ttl
- handshake-timeout
- header-timeout
- host-ownership
- http
- https
- https-public-port
- ingress-class
- intermediates
- keep-alive
- kubeconfig
- last-good-secret
- last-good-ttl
- log
- log-format
- mask-clients
- max-connections
- max-handshakes
- max-header-size
- max-headers
- metrics-per-host
- min-tls-version
- no-status
- only-anchors
- proxy-protocol
- publish-node-addresses
- publish-service
- publish-status-address
- read-timeout
- report-node-internal-ip
- send-timeout
- source
- state-dir
- sync-timeout
- trust-anchors
- trusted-proxies
- unready-delay
- update-status-on-shutdown
- upstream-keepalive
- watch-ingress-without-class
- watch-namespace
- watch-namespace-selector
- webhook-addr
- webhook-cert
- webhook-client-ca
- webhook-configuration
- webhook-deny
- webhook-key
- webhook-secret
- webhook-service
- workers
{{- end -}}

{{/* Flags of ingress-nginx without which nothing is different here. */}}
{{- define "handfast.flags.meaningless" -}}
- deep-inspect
- disable-full-test
- disable-svc-external-name
- disable-sync-events
- dynamic-configuration-retries
- enable-annotation-validation
- enable-metrics
- enable-topology-aware-routing
- health-check-path
- health-check-timeout
- post-shutdown-grace-period
- profiling
- status-update-interval
- sync-period
- sync-rate-limit
- update-status
- v
{{- end -}}
