//! Each kind: a document with its fields is accepted and survives; what each rule forbids is refused at its field.

use hawser_api::istio::*;

fn read(kind: &str, spec: &str) -> Result<Resource, ParseError> {
    let kind: Kind = kind.parse().unwrap();
    let text = format!("apiVersion: {}/v1\nkind: {kind}\nmetadata:\n  name: a\nspec: {spec}\n", kind.group());
    parse_documents("a.yaml", &text).remove(0).map(|parsed| parsed.resource)
}

#[test]
fn what_the_api_knows_is_accepted() {
    let accepted = [
        (
            "vs",
            "{hosts: ['*.example.com'], gateways: [edge, istio-system/edge, mesh], exportTo: [., foo], http: [{name: a, match: [{uri: {prefix: /a}, scheme: {exact: https}, method: {exact: GET}, authority: {regex: 'a.*'}, headers: {a: {}}, port: 80, sourceLabels: {a: b}, queryParams: {q: {exact: '1'}}, ignoreUriCase: true, withoutHeaders: {b: {prefix: x}}, sourceNamespace: foo, statPrefix: s}], route: [{destination: {host: a.foo.svc.cluster.local, subset: v1, port: {number: 80}}, weight: 1, headers: {request: {set: {a: b}, add: {c: d}, remove: [e]}, response: {remove: [f]}}}], rewrite: {uri: /b, authority: c}, timeout: 1s, retries: {attempts: 3, perTryTimeout: 2s, retryOn: 'gateway-error,connect-failure,503', retryRemoteLocalities: true, retryIgnorePreviousHosts: false, backoff: 25ms}, fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}, abort: {grpcStatus: UNAVAILABLE}}, mirror: {host: b}, mirrorPercentage: {value: 10}, corsPolicy: {allowOrigins: [{exact: 'https://a'}], allowMethods: [GET], allowHeaders: ['*'], maxAge: 24h, allowCredentials: false, unmatchedPreflights: IGNORE}}]}",
        ),
        (
            "vs",
            "{hosts: [a], http: [{redirect: {uri: /x, authority: b, port: 8080, scheme: https, redirectCode: 302}}, {directResponse: {status: 503, body: {string: no}}}, {delegate: {name: a, namespace: b}}]}",
        ),
        (
            "vs",
            "{hosts: [a], http: [{redirect: {derivePort: FROM_REQUEST_PORT}}, {route: [{destination: {host: a}}], mirrors: [{destination: {host: b}, percentage: {value: 1}}], rewrite: {uriRegexRewrite: {match: '^/a/(.*)', rewrite: '/b/\\1'}}}]}",
        ),
        ("vs", "{http: [{route: [{destination: {host: a}}]}]}"),
        (
            "vs",
            "{hosts: [10.0.0.1], tcp: [{match: [{port: 27017, destinationSubnets: [10.0.0.0/8], sourceLabels: {a: b}}], route: [{destination: {host: mongo}, weight: 100}]}], tls: [{match: [{port: 443, sniHosts: [a.example.com]}], route: [{destination: {host: a}}]}]}",
        ),
        (
            "vs",
            "{hosts: [a], http: [{match: [{uri: {regex: '(?i)/A\\p{L}+'}}], route: [{destination: {host: a}}], mirror: {host: b}, mirror_percent: 5}]}",
        ),
        (
            "dr",
            "{host: '*.local', exportTo: ['*'], workloadSelector: {matchLabels: {a: b}}, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s, path: /}, ringHash: {minimumRingSize: 64}}, localityLbSetting: {enabled: true, distribute: [{from: us/a/*, to: {'us/a/*': 80, us/b: 20}}]}}, connectionPool: {tcp: {maxConnections: 10, connectTimeout: 30ms, tcpKeepalive: {probes: 3, time: 7200s, interval: 75s}, maxConnectionDuration: 1h, idleTimeout: 0s}, http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: 4, idleTimeout: 5s, h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 6, http2KeepAlive: {interval: 1s, timeout: 1s}}}, outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 0, interval: 5m, baseEjectionTime: 15m, maxEjectionPercent: 100, minHealthPercent: 0, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 5, outlierDetectionHttpErrorCodes: [500]}, tls: {mode: MUTUAL, clientCertificate: /a, privateKey: /b, caCertificates: /c, sni: x, subjectAltNames: [y]}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}], proxyProtocol: {version: V2}, retryBudget: {percent: 20, minRetryConcurrency: 3, budgetInterval: 10s}}, subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, tunnel: {protocol: POST, targetHost: a, targetPort: 443}}}]}",
        ),
        (
            "dr",
            "{host: a, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST, warmup: {duration: 10s}, zoneAwareLbSetting: {enabled: true, minClusterSize: 3, failover: [{from: us, to: eu}]}}, tls: {mode: SIMPLE, credentialName: c, insecureSkipVerify: true}}}",
        ),
        (
            "se",
            "{hosts: [a.example.com], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS, location: MESH_EXTERNAL, endpoints: [{address: b.example.com, ports: {https: 8443}, locality: us/a, weight: 3}]}",
        ),
        ("se", "{hosts: ['*.example.com'], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DYNAMIC_DNS}"),
        (
            "se",
            "{hosts: [a.b], addresses: [10.0.0.0/24], ports: [{number: 80, name: http, protocol: http}], resolution: STATIC, location: MESH_INTERNAL, endpoints: [{address: 'unix:///var/run/a.sock'}, {address: '::1'}], subjectAltNames: ['spiffe://x/ns/a/sa/b']}",
        ),
        (
            "we",
            "{address: 10.0.0.1, ports: {http: 8080}, labels: {app: a}, network: n, locality: a/b/c, weight: 2, serviceAccount: sa}",
        ),
        (
            "wg",
            "{metadata: {labels: {app: a}, annotations: {x.io/y: z}}, template: {ports: {http: 8080}, serviceAccount: a, network: n}, probe: {initialDelaySeconds: 5, timeoutSeconds: 3, periodSeconds: 4, successThreshold: 3, failureThreshold: 3, httpGet: {path: /a, host: 127.0.0.1, port: 3100, scheme: HTTPS, httpHeaders: [{name: Lit-Header, value: Im-The-Best}]}}}",
        ),
        ("wg", "{template: {}, probe: {exec: {command: [cat, /a]}}}"),
        ("wg", "{template: {}, probe: {grpc: {port: 1, service: a}}}"),
        ("wg", "{template: {}, probe: {tcpSocket: {port: 1}}}"),
        (
            "sidecar",
            "{workloadSelector: {labels: {a: b}}, ingress: [{port: {number: 9080, protocol: HTTP, name: http}, bind: 0.0.0.0, defaultEndpoint: '127.0.0.1:8080', captureMode: NONE, connectionPool: {http: {http2MaxRequests: 1}}, tls: {mode: SIMPLE, privateKey: /a, serverCertificate: /b}}, {port: {number: 1}, defaultEndpoint: 'unix:///a'}], egress: [{port: {number: 1, protocol: TCP, name: a}, bind: 127.0.0.1, hosts: ['./*']}, {hosts: [istio-system/*, '*/a.example.com', '~/*']}], outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a}}, inboundConnectionPool: {tcp: {maxConnections: 1}}}",
        ),
        (
            "gw",
            "{selector: {istio: ingressgateway}, servers: [{name: a, port: {number: 443, name: https, protocol: HTTPS}, bind: 0.0.0.0, hosts: ['ns/*.a.com', b.com, '*'], tls: {mode: MUTUAL, credentialNames: [a, b], minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3, cipherSuites: [x], subjectAltNames: [y], verifyCertificateHash: [z], verifyCertificateSpki: [w], caCrl: v}}, {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*'], tls: {httpsRedirect: true}}]}",
        ),
        ("pa", "{}"),
        ("pa", "{selector: {matchLabels: {app: a}}, mtls: {mode: UNSET}, portLevelMtls: {'8080': {mode: STRICT}}}"),
        (
            "ra",
            "{selector: {matchLabels: {app: a}}, jwtRules: [{issuer: a, audiences: [b], jwksUri: 'https://a/b', fromHeaders: [{name: x-jwt, prefix: 'Bearer '}], fromParams: [t], fromCookies: [c], outputPayloadToHeader: x-p, forwardOriginalToken: true, outputClaimToHeaders: [{header: x-c, claim: a.b}], timeout: 5s, spaceDelimitedClaims: [scope]}, {issuer: b, jwks: '{\"keys\": []}'}]}",
        ),
        (
            "ap",
            "{action: CUSTOM, provider: {name: p}, rules: [{from: [{source: {principals: ['*'], notNamespaces: [a], ipBlocks: [10.0.0.0/8], remoteIpBlocks: ['::1'], trustDomains: [td]}}, {source: {serviceAccounts: [ns/sa]}}], to: [{operation: {hosts: [a*], ports: ['80'], methods: [GET], paths: [/a*, '/x/{*}/y', '/z/{**}'], notPaths: ['*/b']}}], when: [{key: 'request.auth.claims[a][b]', values: [c]}, {key: destination.port, notValues: ['1']}]}]}",
        ),
        ("ap", "{}"),
        ("ap", "{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: a}], action: DENY, rules: [{}]}"),
        (
            "telemetry",
            "{tracing: [{match: {mode: SERVER}, providers: [{name: z}], randomSamplingPercentage: 0.5, disableSpanReporting: false, customTags: {a: {literal: {value: b}}, c: {environment: {name: D, defaultValue: e}}, f: {header: {name: g}}, h: {formatter: {value: '%A%'}}}, useRequestIdForTraceSampling: true, enableIstioTags: false, disableContextPropagation: true}], metrics: [{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_COUNT, mode: CLIENT}, disabled: true, tagOverrides: {a: {value: b}, c: {operation: REMOVE}}}, {match: {customMetric: m}}], reportingInterval: 5s}], accessLogging: [{match: {mode: CLIENT}, providers: [{name: p}], disabled: false, filter: {expression: 'response.code >= 400'}}]}",
        ),
    ];
    for (kind, spec) in accepted {
        let resource = read(kind, spec).unwrap_or_else(|error| panic!("{kind} {spec}\n{error}"));
        let again = parse_documents("b.yaml", &resource.to_yaml())
            .remove(0)
            .unwrap_or_else(|e| panic!("{e}\n{}", resource.to_yaml()));
        assert_eq!(again.resource, resource);
        assert_eq!(Resource::from_json(&resource.to_json()).unwrap(), resource);
    }
}

#[test]
fn what_a_rule_forbids_is_refused_at_its_field() {
    let refused = [
        ("vs", "{}", "hosts"),
        ("vs", "{hosts: [a]}", ""),
        ("vs", "{hosts: [a, A], http: [{route: [{destination: {host: a}}]}]}", "hosts[1]"),
        ("vs", "{hosts: ['a.*'], http: [{route: [{destination: {host: a}}]}]}", "hosts[0]"),
        ("vs", "{hosts: [a], http: [{}]}", "http[0]"),
        ("vs", "{hosts: [a], http: [{route: [{destination: {host: a}}], redirect: {uri: /}}]}", "http[0].redirect"),
        ("vs", "{hosts: [a], http: [{redirect: {}}]}", "http[0].redirect"),
        ("vs", "{hosts: [a], http: [{redirect: {uri: /, redirectCode: 200}}]}", "http[0].redirect.redirectCode"),
        (
            "vs",
            "{hosts: [a], http: [{redirect: {port: 1, derivePort: FROM_REQUEST_PORT}}]}",
            "http[0].redirect.derivePort",
        ),
        ("vs", "{hosts: [a], http: [{redirect: {uri: /}, rewrite: {uri: /}}]}", "http[0].rewrite"),
        ("vs", "{hosts: [a], http: [{directResponse: {}}]}", "http[0].directResponse.status"),
        (
            "vs",
            "{hosts: [a], http: [{directResponse: {status: 200, body: {bytes: '?'}}}]}",
            "http[0].directResponse.body.bytes",
        ),
        ("vs", "{hosts: [a], http: [{route: [{}]}]}", "http[0].route[0].destination.host"),
        ("vs", "{hosts: [a], http: [{route: [{destination: {host: '*'}}]}]}", "http[0].route[0].destination.host"),
        (
            "vs",
            "{hosts: [a], http: [{route: [{destination: {host: a, subset: 'v 1'}}]}]}",
            "http[0].route[0].destination.subset",
        ),
        (
            "vs",
            "{hosts: [a], http: [{route: [{destination: {host: a, port: {}}}]}]}",
            "http[0].route[0].destination.port.number",
        ),
        (
            "vs",
            "{hosts: [a], http: [{route: [{destination: {host: a, port: {number: 70000}}}]}]}",
            "http[0].route[0].destination.port.number",
        ),
        ("vs", "{hosts: [a], http: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}", "http[0].route"),
        ("vs", "{hosts: [a], http: [{match: [{uri: {}}], route: [{destination: {host: a}}]}]}", "http[0].match[0].uri"),
        (
            "vs",
            "{hosts: [a], http: [{match: [{uri: {exact: a, prefix: b}}], route: [{destination: {host: a}}]}]}",
            "http[0].match[0].uri",
        ),
        (
            "vs",
            "{hosts: [a], http: [{match: [{headers: {'a b': {}}}], route: [{destination: {host: a}}]}]}",
            "http[0].match[0].headers[\"a b\"]",
        ),
        (
            "vs",
            "{hosts: [a], http: [{route: [{destination: {host: a}}], retries: {attempts: -1}}]}",
            "http[0].retries.attempts",
        ),
        (
            "vs",
            "{hosts: [a], http: [{route: [{destination: {host: a}}], retries: {attempts: 1, retryOn: never}}]}",
            "http[0].retries.retryOn",
        ),
        (
            "vs",
            "{hosts: [a], http: [{route: [{destination: {host: a}}], retries: {attempts: 1, perTryTimeout: 1us}}]}",
            "http[0].retries.perTryTimeout",
        ),
        (
            "vs",
            "{hosts: [a], http: [{route: [{destination: {host: a}}], fault: {abort: {httpStatus: 99}}}]}",
            "http[0].fault.abort.httpStatus",
        ),
        ("vs", "{hosts: [a], http: [{route: [{destination: {host: a}}], fault: {delay: {}}}]}", "http[0].fault.delay"),
        (
            "vs",
            "{hosts: [a], http: [{route: [{destination: {host: a}}], mirrorPercentage: {value: 101}, mirror: {host: b}}]}",
            "http[0].mirrorPercentage.value",
        ),
        (
            "vs",
            "{hosts: [a], http: [{route: [{destination: {host: a}}], headers: {request: {set: {\"a\": \"b\\nc\"}}}}]}",
            "http[0].headers.request.set.a",
        ),
        ("vs", "{hosts: [a], tls: [{match: [{}], route: [{destination: {host: a}}]}]}", "tls[0].match[0].sniHosts"),
        (
            "vs",
            "{hosts: [a], tcp: [{match: [{destinationSubnets: [10.0.0.0/99]}], route: [{destination: {host: a}}]}]}",
            "tcp[0].match[0].destinationSubnets[0]",
        ),
        ("vs", "{hosts: [a], tcp: [{}]}", "tcp[0].route"),
        ("vs", "{hosts: [a], gateways: [a/b/c], tcp: [{route: [{destination: {host: a}}]}]}", "gateways[0]"),
        ("vs", "{hosts: [a], exportTo: [., .], tcp: [{route: [{destination: {host: a}}]}]}", "exportTo[1]"),
        ("dr", "{}", "host"),
        ("dr", "{host: a, subsets: [{name: v1}, {name: v1}]}", "subsets[1].name"),
        ("dr", "{host: a, subsets: [{labels: {a: b}}]}", "subsets[0].name"),
        ("dr", "{host: a, subsets: [{name: v1, labels: {a: 'b c'}}]}", "subsets[0].labels.a"),
        ("dr", "{host: a, trafficPolicy: {}}", "trafficPolicy"),
        ("dr", "{host: a, trafficPolicy: {loadBalancer: {simple: FASTEST}}}", "trafficPolicy.loadBalancer.simple"),
        (
            "dr",
            "{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}}",
            "trafficPolicy.loadBalancer.consistentHash",
        ),
        (
            "dr",
            "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {}}}}",
            "trafficPolicy.loadBalancer.consistentHash",
        ),
        (
            "dr",
            "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 90}}]}}}}",
            "trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to",
        ),
        (
            "dr",
            "{host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}}",
            "trafficPolicy.connectionPool.tcp.maxConnections",
        ),
        (
            "dr",
            "{host: a, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 0s}}}}",
            "trafficPolicy.connectionPool.tcp.connectTimeout",
        ),
        (
            "dr",
            "{host: a, trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}}",
            "trafficPolicy.outlierDetection.maxEjectionPercent",
        ),
        ("dr", "{host: a, trafficPolicy: {tls: {mode: MUTUAL}}}", "trafficPolicy.tls.clientCertificate"),
        ("dr", "{host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, privateKey: /a}}}", "trafficPolicy.tls.privateKey"),
        (
            "dr",
            "{host: a, trafficPolicy: {portLevelSettings: [{tls: {mode: DISABLE}}]}}",
            "trafficPolicy.portLevelSettings[0].port",
        ),
        ("dr", "{host: a, trafficPolicy: {tunnel: {targetHost: b}}}", "trafficPolicy.tunnel.targetPort"),
        ("se", "{hosts: [a], ports: [{number: 1}]}", "ports[0].name"),
        ("se", "{hosts: [a], ports: [{number: 1, name: a, protocol: SMOKE}]}", "ports[0].protocol"),
        ("se", "{hosts: [a], addresses: [1.2.3.4/99]}", "addresses[0]"),
        ("se", "{hosts: [a], resolution: STATIC, endpoints: [{address: b.example.com}]}", "endpoints[0].address"),
        (
            "se",
            "{hosts: [a], resolution: STATIC, endpoints: [{address: 10.0.0.1, ports: {http: 1}}]}",
            "endpoints[0].ports.http",
        ),
        ("se", "{hosts: ['*.a.com'], resolution: DNS}", "hosts[0]"),
        ("we", "{address: 'a b'}", "address"),
        ("we", "{address: 1.1.1.1, locality: a/b/c/d}", "locality"),
        ("we", "{address: 1.1.1.1, weight: -1}", "weight"),
        ("wg", "{}", "template"),
        ("wg", "{template: {}, probe: {}}", "probe"),
        ("wg", "{template: {}, probe: {httpGet: {}}}", "probe.httpGet.port"),
        ("wg", "{template: {}, probe: {httpGet: {port: 1, scheme: FTP}}}", "probe.httpGet.scheme"),
        ("wg", "{template: {}, probe: {periodSeconds: -1, tcpSocket: {port: 1}}}", "probe.periodSeconds"),
        ("wg", "{template: {}, probe: {exec: {command: ['']}}}", "probe.exec.command"),
        ("wg", "{template: {ports: {'a_b': 1}}}", "template.ports.a_b"),
        ("sidecar", "{egress: [{hosts: [a.com]}]}", "egress[0].hosts[0]"),
        ("sidecar", "{ingress: [{port: {number: 1}}]}", "workloadSelector"),
        ("gw", "{servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [a]}]}", "servers[0].tls"),
        (
            "gw",
            "{servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [a], tls: {mode: SIMPLE}}]}",
            "servers[0].tls.serverCertificate",
        ),
        ("pa", "{portLevelMtls: {8080: {mode: STRICT}}}", "portLevelMtls"),
        ("pa", "{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {mode: STRICT}}}", "portLevelMtls.0"),
        ("pa", "{mtls: {mode: SOMETIMES}}", "mtls.mode"),
        ("pa", "{selector: {matchLabels: {a: '*'}}}", "selector.matchLabels.a"),
        ("ra", "{jwtRules: [{jwksUri: 'ftp://a'}]}", "jwtRules[0].issuer"),
        ("ra", "{jwtRules: [{issuer: a, jwks: '{}'}]}", "jwtRules[0].jwks"),
        ("ap", "{action: CUSTOM}", "provider.name"),
        ("ap", "{rules: [{from: [{}]}]}", "rules[0].from[0].source"),
        ("ap", "{rules: [{to: [{operation: {ports: [http]}}]}]}", "rules[0].to[0].operation.ports[0]"),
        ("ap", "{rules: [{to: [{operation: {paths: ['/a{*}']}}]}]}", "rules[0].to[0].operation.paths[0]"),
        ("ap", "{rules: [{when: [{key: source.mood, values: [a]}]}]}", "rules[0].when[0].key"),
        ("ap", "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/40]}}]}]}", "rules[0].from[0].source.ipBlocks[0]"),
        ("ap", "{selector: {matchLabels: {a: b}}, targetRef: {kind: A, name: b}}", "targetRef"),
        ("telemetry", "{tracing: [{randomSamplingPercentage: 101}]}", "tracing[0].randomSamplingPercentage"),
        ("telemetry", "{tracing: [{customTags: {a: {}}}]}", "tracing[0].customTags.a"),
        (
            "telemetry",
            "{metrics: [{overrides: [{tagOverrides: {a: {}}}]}]}",
            "metrics[0].overrides[0].tagOverrides.a.value",
        ),
    ];
    for (kind, spec, field) in refused {
        let error = read(kind, spec).expect_err(&format!("{kind} {spec}"));
        let field = if field.is_empty() { "spec".to_owned() } else { format!("spec.{field}") };
        let paths: Vec<String> = error.problems.iter().map(|p| p.path.to_string()).collect();
        assert!(paths.contains(&field), "{kind} {spec}: {field} not in {paths:?}\n{error}");
    }
}
