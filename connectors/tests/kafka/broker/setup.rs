//! The files that a node is started with: its properties and certificates.

use std::fmt::Write as _;
use std::process::Command;

use super::{Cluster, Ports};

impl Cluster {
    /// What a node is to know of itself and the others.
    pub(super) fn properties(&self, node: usize, secure: bool) -> String {
        let Ports {
            plain,
            sasl,
            tls,
            expired,
            controller,
        } = self.ports[node];
        let voters: Vec<String> = (1..)
            .zip(&self.ports)
            .map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller))
            .collect();
        let id = node + 1;
        let replicas = self.ports.len();
        let in_sync = replicas.min(2);
        let secured = if secure {
            format!(
                ",SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{tls},EXPIRED://127.0.0.1:{expired}"
            )
        } else {
            String::new()
        };
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://127.0.0.1:{plain}{secured},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{plain}{secured}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,EXPIRED:SSL,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=PLAINTEXT\n\
             log.dirs={}\n\
             auto.create.topics.enable=false\n\
             default.replication.factor={replicas}\n\
             min.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={replicas}\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=4\n\
             group.initial.rebalance.delay.ms=0\n\
             log.cleaner.enable=true\n\
             log.cleaner.backoff.ms=100\n",
            voters.join(","),
            self.path(&format!("node{node}")).display(),
        );
        if secure {
            let dir = self.dir.path().display();
            let _ = write!(
                text,
                "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER\n\
                 ssl.keystore.type=PKCS12\n\
                 ssl.keystore.location={dir}/broker.p12\n\
                 ssl.keystore.password=secret\n\
                 ssl.truststore.type=PEM\n\
                 ssl.truststore.location={dir}/ca.pem\n\
                 listener.name.ssl.ssl.client.auth=required\n\
                 listener.name.expired.ssl.keystore.location={dir}/expired.p12\n\
                 authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                 super.users=User:ANONYMOUS;User:alice;User:bob;User:erin;User:olga;User:CN=client\n\
                 listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"alice-secret\" user_dave=\"dave-secret\";\n\
                 listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
                 listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
                 listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;\n"
            );
        }
        text
    }

    /// A CA, certificates of the brokers (one of them expired) and of a client; a CA that signed none
    /// of them; a token of the user olga.
    pub(super) fn certificates(&self) {
        let script = "set -e
            ca() { openssl req -x509 -newkey rsa:2048 -nodes -keyout $1.key -out $1.pem -days 30 -subj /CN=$1; }
            signed() {
                openssl req -newkey rsa:2048 -nodes -keyout $1.key -out $1.csr -subj /CN=$1
                echo subjectAltName=DNS:localhost,IP:127.0.0.1 >$1.ext
                openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days $2 -out $1.pem -extfile $1.ext
            }
            store() { openssl pkcs12 -export -in $1.pem -inkey $1.key -certfile ca.pem -name broker -out $1.p12 -passout pass:secret; }
            ca ca; ca foreign; signed broker 30; signed expired 0; signed client 30
            store broker; store expired
            part() { printf %s \"$1\" | openssl base64 -A | tr '+/' '-_' | tr -d '='; }
            now=$(date +%s)
            claims=$(printf '{\"sub\":\"olga\",\"iat\":%d,\"exp\":%d}' $now $((now + 3600)))
            printf '%s.%s.\\n' $(part '{\"alg\":\"none\"}') $(part \"$claims\") >token";
        let done = Command::new("sh")
            .args(["-c", script])
            .current_dir(self.dir.path())
            .output()
            .expect("openssl runs");
        assert!(done.status.success(), "{done:?}");
    }
}
