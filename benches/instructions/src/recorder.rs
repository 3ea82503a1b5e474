//! Receives the metrics, with the feature `metrics`.

use metrics_exporter_prometheus::PrometheusBuilder;

/// Installs the usual recorder for this process.
pub fn install() {
    PrometheusBuilder::new().install_recorder().expect("no other recorder");
}
