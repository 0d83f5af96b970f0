declare module "multicast-dns" {
  import type { EventEmitter } from "node:events"

  export interface Question {
    readonly name: string
    readonly type: string
  }

  export interface Answer extends Question {
    readonly ttl?: number
    readonly flush?: boolean
    readonly data?: unknown
  }

  export interface Packet {
    readonly questions?: ReadonlyArray<Question>
    readonly answers?: ReadonlyArray<Answer>
    readonly additionals?: ReadonlyArray<Answer>
  }

  export interface Sender {
    readonly address: string
    readonly port: number
  }

  export interface MulticastDns extends EventEmitter {
    query(packet: Packet, sent?: (error?: Error | null) => void): void
    respond(packet: Packet, to?: Sender | null, sent?: (error?: Error | null) => void): void
    destroy(closed?: () => void): void
  }

  // biome-ignore lint/style/noDefaultExport: that is how it is exported.
  export default function multicastDns(options?: {
    readonly port?: number
    readonly bind?: string
    readonly interface?: string
  }): MulticastDns
}
