import shutil
R='/tmp/pages2/'
for f in ('rules','labels','process'): shutil.copy(f'/tmp/next/metrics/{f}.rs', R+f'src/metrics/{f}.rs')
p=R+'src/metrics.rs'; s=open(p).read()
s=s.replace("mod calls;\nmod rules;","mod calls;\nmod labels;\nmod process;\nmod rules;")
s=s.replace("use self::rules::RuleSums;","use self::rules::{RuleSeries, RuleSums};")
s=s.replace("use std::sync::atomic::{AtomicUsize, Ordering};\n","").replace("use dashmap::DashMap;\n","")
s=s.replace('''/// Series of rules whose labels come from requests (`detailed_metric`, `value_to_metric`, overrides). Beyond it they share one.
const MAX_DYNAMIC_SERIES: usize = 10_000;

''','')
s=s.replace('''    rules: DashMap<[String; 3], RuleMeters>,
    registered: AtomicUsize,
    dynamic: AtomicUsize,
''','''    rules: RuleSeries,
''').replace('''            rules: DashMap::new(),
            registered: AtomicUsize::new(0),
            dynamic: AtomicUsize::new(0),
''','''            rules: RuleSeries::default(),
''')
s=s.replace('''        let mut text = self.handle.render();
        self.calls.render(&mut text);
''','''        self.rules.forget_gone();
        let mut text = self.handle.render();
        self.rules.render(&mut text);
        self.calls.render(&mut text);
        process::render(&mut text);
''')
s=s.replace('''        self.settle();
        self.handle.run_upkeep();
''','''        self.settle();
        self.rules.forget_gone();
        self.handle.run_upkeep();
''')
a=s.index('    /// The series of a rule that the rules files declare.'); b=s.index('impl Default for Metrics')
s=s[:a]+'''    /// The series of a rule that the rules files declare, for as long as somebody holds them.
    pub fn declared_rule(&self, domain: &str, levels: &[String]) -> RuleMeters {
        self.rules.declared(domain, levels)
    }

    /// The series of a rule whose name a request had a part in. Bounded: beyond the bound all share the series `other`.
    pub fn dynamic_rule(&self, domain: &str, levels: &[String]) -> RuleMeters {
        self.rules.dynamic(domain, levels)
    }

    /// How many rules have series.
    pub fn rules_with_series(&self) -> usize {
        self.rules.len()
    }
}

'''+s[b:]
a=s.index('/// Deeper levels collapse'); b=s.index('fn key(name:')
s=s[:a]+s[b:]
s=s.replace('''        metrics.count(&metrics.declared_rule("domain", &["key_value".to_owned()]), hit);
        for value in 0..MAX_DYNAMIC_SERIES + 10 {''','''        let declared = metrics.declared_rule("domain", &["key_value".to_owned()]);
        metrics.count(&declared, hit);
        for value in 0..rules::MAX_DYNAMIC + 10 {''').replace("MAX_DYNAMIC_SERIES","rules::MAX_DYNAMIC")
open(p,'w').write(s)
p=R+'Cargo.toml'; s=open(p).read()
s=s.replace('rustix = { version = "1", features = ["process", "time"] }','rustix = { version = "1", features = ["param", "process", "time"] }')
open(p,'w').write(s)
p=R+'src/cli/serve/housekeeping/gauges.rs'; s=open(p).read()
s=s.replace('''    lag: metrics::Gauge,
''','''    lag: metrics::Gauge,
    rule_series: metrics::Gauge,
''').replace('''            stalled: gauge(metrics, "tollgate_ledger_stalled''','''            rule_series: gauge(metrics, "tollgate_rules_with_series", "Rules with series: those in force, and at most 10,000 that requests named"),
            stalled: gauge(metrics, "tollgate_ledger_stalled''')
s=s.replace('''    #[allow(clippy::cast_precision_loss)]
    pub(super) fn set_waits(''','''    #[allow(clippy::cast_precision_loss)]
    pub(super) fn set_series(&self, metrics: &Metrics) {
        self.rule_series.set(count(metrics.rules_with_series()) as f64);
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn set_waits(''')
open(p,'w').write(s)
p=R+'src/cli/serve/housekeeping.rs'; s=open(p).read()
s=s.replace('''        metrics.run_upkeep();
        std''','''        metrics.run_upkeep();
        gauges.set_series(&metrics);
        std''')
open(p,'w').write(s)
# errors of the service
p=R+'src/grpc/ratelimit.rs'; s=open(p).read()
s=s.replace('''    domain_not_found: Counter,
}
''','''    domain_not_found: Counter,
    service_error: Counter,
}
''',1)
s=s.replace('''        metrics.describe_counter("ratelimit_service_domain_not_found", "Requests for a domain that no rules file defines");
''','''        metrics.describe_counter("ratelimit_service_domain_not_found", "Requests for a domain that no rules file defines");
        metrics.describe_counter(
            "ratelimit_service_should_rate_limit_error",
            "Rate-limit requests that ended in an error. There is no Redis here whose errors could be counted",
        );
        let error = |err_type| metrics.counter("ratelimit_service_should_rate_limit_error", &[("err_type", err_type)]);
        // Alerts of the reference read both.
        let (service_error, _) = (error("service_error"), error("redis_error"));
''')
s=s.replace('''            domain_not_found: metrics.counter("ratelimit_service_domain_not_found", &[]),
''','''            domain_not_found: metrics.counter("ratelimit_service_domain_not_found", &[]),
            service_error,
''')
s=s.replace('''    /// What can be said without waiting for anything. Nearly every request is answered here.
    fn first_try(&self, request: &RateLimitRequest) -> Result<First, RateLimitError> {
''','''    /// What can be said without waiting for anything. Nearly every request is answered here.
    fn first_try(&self, request: &RateLimitRequest) -> Result<First, RateLimitError> {
        self.try_at_once(request).inspect_err(|_| self.service_error.increment(1))
    }

    fn try_at_once(&self, request: &RateLimitRequest) -> Result<First, RateLimitError> {
''')
s=s.replace('''    async fn answer_later(
        &self,
        request: &RateLimitRequest,
        open: Open,
        time_left: Option<Duration>,
    ) -> Result<RateLimitResponse, RateLimitError> {
''','''    async fn answer_later(
        &self,
        request: &RateLimitRequest,
        open: Open,
        time_left: Option<Duration>,
    ) -> Result<RateLimitResponse, RateLimitError> {
        self.wait_and_try(request, open, time_left).await.inspect_err(|_| self.service_error.increment(1))
    }

    async fn wait_and_try(
        &self,
        request: &RateLimitRequest,
        open: Open,
        time_left: Option<Duration>,
    ) -> Result<RateLimitResponse, RateLimitError> {
''')
open(p,'w').write(s)
