/** A server of a model as plain data, with what the fleet knows of its speed. */
import type { Snapshot } from "../Fleet.js"
import type { Host, ServerInfo } from "../Server.js"

export const serverInfoOf = (host: Host, { benchmarkedAt, tokensPerSecond: live }: Snapshot): ServerInfo => ({
  url: host.server.url,
  protocol: host.certain ? host.protocol : host.server.protocol,
  location: host.server.location ?? {},
  organization: host.server.organization,
  tokens_per_second: live ?? host.performance?.tokens_per_second,
  performance:
    live === undefined
      ? (host.performance ?? {})
      : {
          tokens_per_second: live,
          ...(benchmarkedAt === undefined ? {} : { last_tested: new Date(benchmarkedAt).toISOString() })
        }
})
