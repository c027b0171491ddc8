#pragma once
// Tells systemd (Type=notify) how the daemon is doing, over the datagram socket named by NOTIFY_SOCKET; does nothing
// without one. The protocol is sd_notify(3); no library needed for one sendmsg.
#include <string_view>

namespace tokenworks::app {

void notify_supervisor(std::string_view state);

}  // namespace tokenworks::app
