# Sourced by the benches that need Kafka: starts a broker on the loopback interface in the working directory, and defines
# `jvm` and `topic`. Wants `target`, `work` and `port`; lines of $properties are added to its own.
cat > node.properties <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
log.dirs=$work/log
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
${properties:-}
P
echo 'rootLogger.level=error' > log4j2.properties
java=(java -Xmx1g -Dlog4j2.configurationFile="$work/log4j2.properties" -cp "$target/kafka/libs/*")
jvm() { "${java[@]}" "$@"; }
topic() { jvm org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$port" "$@" 2>> tools.log; }
jvm kafka.tools.StorageTool format -t 5L6g3nShT-eMCtK--X86sw -c node.properties > format.log
# Not by `jvm`: its process is to be the one that is ended.
"${java[@]}" kafka.Kafka node.properties > node.log 2>&1 &
node=$!
trap 'kill -9 $node 2>/dev/null || true; rm -rf "$work/log"' EXIT
for _ in $(seq 60); do topic --list > /dev/null && break || sleep 1; done
