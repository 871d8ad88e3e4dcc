use super::*;

#[test]
fn forwards_come_in_the_order_they_were_asked_for() {
    let table = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                 TCP[HOST_FORWARD]  20      127.77.0.1 30080       10.0.2.15 30080     0     0\r\n  \
                 TCP[HOST_FORWARD]  14      127.77.0.1 36855       10.0.2.15    22     0     0\r\n  \
                 TCP[HOST_FORWARD]  13      127.77.0.1  8443       10.0.2.15  8443     0     0\r\n  \
                 UDP[HOST_FORWARD]  21      127.77.0.1 30053       10.0.2.15 30053     0     0\r\n  \
                 TCP[ESTABLISHED]   15       127.0.0.1 40000       10.0.2.15  8443     0     0\r\n";
    let forward = |host: &str, guest_port| Forward::tcp(host.parse().unwrap(), guest_port);
    let wanted = [forward("127.77.0.1:8443", 8443), forward("127.77.0.1:0", 22)];
    assert_eq!(
        in_order(table, &wanted),
        [
            forward("127.77.0.1:8443", 8443),
            forward("127.77.0.1:36855", 22),
            forward("127.77.0.1:30080", 30080),
            Forward::udp("127.77.0.1:30053".parse().unwrap(), 30053),
        ]
    );
    assert!(in_order("garbage\n", &wanted).is_empty());
}
