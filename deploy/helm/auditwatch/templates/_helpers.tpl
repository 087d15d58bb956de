{{- define "auditwatch.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "auditwatch.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "auditwatch.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "auditwatch.selectorLabels" -}}
app.kubernetes.io/name: {{ include "auditwatch.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "auditwatch.labels" -}}
{{ include "auditwatch.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{- define "auditwatch.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{- printf "%s:%s@%s" .Values.image.repository $tag .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* The configuration before .Values.config is merged into it. Endpoints listen on all addresses of both families. */}}
{{- define "auditwatch.defaultConfig" -}}
receivers:
  otlp:
    protocols:
      {{- if .Values.otlp.grpc.enabled }}
      grpc:
        endpoint: 0.0.0.0:4317
      {{- end }}
      {{- if .Values.otlp.http.enabled }}
      http:
        endpoint: 0.0.0.0:4318
      {{- end }}
processors:
  detection:
    cluster: {{ .Values.clusterName | quote }}
    trusted_proxies: {{ toJson .Values.trustedProxies }}
    storage: file_storage
{{- if .Values.splunk.enabled }}
exporters:
  splunk_hec:
    token: ${env:SPLUNK_HEC_TOKEN}
    endpoint: {{ .Values.splunk.endpoint | quote }}
    index: {{ .Values.splunk.index | quote }}
    dead_letter:
      path: /var/lib/auditwatch/dead-letters.ndjson
{{- end }}
extensions:
  health_check:
    endpoint: 0.0.0.0:13133
  file_storage:
    directory: /var/lib/auditwatch
service:
  extensions: [health_check, file_storage]
  memory:
    limit_mib: 512
  telemetry:
    logs:
      encoding: json
    metrics:
      readers:
        - pull:
            exporter:
              prometheus:
                host: 0.0.0.0
                port: 8888
  pipelines:
    logs:
      receivers: [otlp]
      processors: [detection]
      {{- if .Values.splunk.enabled }}
      exporters: [splunk_hec]
      {{- end }}
{{- end -}}

{{/* Both, merged. A key that is null in .Values.config is removed, and so is a section that is false: null is lost on
its way from the values of a parent chart. */}}
{{- define "auditwatch.config" -}}
{{- $config := include "auditwatch.defaultConfig" . | fromYaml -}}
{{- include "auditwatch.merge" (dict "into" $config "from" .Values.config) -}}
{{- $exporters := $config.exporters | default dict -}}
{{- if and (hasKey $exporters "splunk_hec") (not (get ($exporters.splunk_hec | default dict) "endpoint")) -}}
{{- $used := false -}}
{{- range $config.service.pipelines -}}
{{- if has "splunk_hec" (.exporters | default list) -}}{{- $used = true -}}{{- end -}}
{{- end -}}
{{- if not $used -}}{{- $_ := unset $exporters "splunk_hec" -}}{{- end -}}
{{- end -}}
{{- include "auditwatch.oneProtocolOpen" $config -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Fails where one protocol asks for TLS or a token and the other is open to everybody. */}}
{{- define "auditwatch.oneProtocolOpen" -}}
{{- $protocols := ((.receivers | default dict).otlp | default dict).protocols | default dict -}}
{{- if and $protocols.grpc $protocols.http -}}
{{- range $key := list "tls" "auth" -}}
{{- $grpc := hasKey $protocols.grpc $key -}}
{{- if ne $grpc (hasKey $protocols.http $key) -}}
{{- $open := ternary "http" "grpc" $grpc -}}
{{- $why := printf "receivers.otlp.protocols.%s has no %s and the other protocol has" $open $key -}}
{{- $cure := printf "switch it off with otlp.%s.enabled: false" $open -}}
{{- fail (printf "%s: give it one, or %s (null is lost in the values of a parent chart)" $why $cure) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The protocols that are served, as a list of their names. */}}
{{- define "auditwatch.protocols" -}}
{{- $config := include "auditwatch.config" . | fromYaml -}}
{{- $protocols := ((($config.receivers | default dict).otlp | default dict).protocols) | default dict -}}
{{- keys $protocols | sortAlpha | toJson -}}
{{- end -}}

{{/* The ports that egress needs: of networkPolicy.splunk.ports, of every exporter, and of proxies in extraEnv. */}}
{{- define "auditwatch.egressPorts" -}}
{{- $config := include "auditwatch.config" . | fromYaml -}}
{{- $ports := list -}}
{{- range .Values.networkPolicy.splunk.ports -}}{{- $ports = append $ports (int .) -}}{{- end -}}
{{- range $id, $exporter := $config.exporters -}}
{{- range $key := list "endpoint" "logs_endpoint" -}}
{{- $endpoint := get ($exporter | default dict) $key -}}
{{- if $endpoint -}}
{{- $port := include "auditwatch.portOf" $endpoint -}}
{{- $ports = ternary (list (int $port)) (list 8088 443) (ne $port "") | concat $ports -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if and (has (upper .name) (list "HTTPS_PROXY" "HTTP_PROXY")) .value -}}
{{- $port := include "auditwatch.portOf" .value -}}
{{- if $port -}}{{- $ports = append $ports (int $port) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* The port of a URL or of host:port. Empty: a variable hides it. */}}
{{- define "auditwatch.portOf" -}}
{{- $authority := regexReplaceAll "^[a-z]+:///?" . "" | regexFind "^[^/?#]*" -}}
{{- $port := regexFind ":[0-9]+$" $authority | trimPrefix ":" -}}
{{- if $port -}}{{- $port -}}
{{- else if contains "${" . -}}
{{- else if hasPrefix "http://" . -}}80
{{- else if hasPrefix "https://" . -}}443
{{- end -}}
{{- end -}}

{{- define "auditwatch.merge" -}}
{{- $into := .into -}}
{{- range $key, $value := .from -}}
{{- if or (kindIs "invalid" $value) (and (kindIs "bool" $value) (not $value) (kindIs "map" (get $into $key))) -}}
{{- $_ := unset $into $key -}}
{{- else if and (kindIs "map" $value) (kindIs "map" (index $into $key)) -}}
{{- include "auditwatch.merge" (dict "into" (index $into $key) "from" $value) -}}
{{- else -}}
{{- $_ := set $into $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
