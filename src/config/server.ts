/** The settings of a server, in an object of `servers`. */
import * as Schema from "effect/Schema"
import type * as Server from "../Server.js"
import { fields } from "../server/options.js"
import { sectionOf, setting } from "./setting.js"

/** A text that is not blank; `what` says what it must be. */
export const text = (what: string) =>
  Schema.String.pipe(
    Schema.filter((value) => value.trim() !== "", { message: () => `must be ${what}`, jsonSchema: { minLength: 1 } })
  )

/** A secret in the file: itself, or the environment variable that holds it. */
export const Secret = Schema.Union(Schema.NonEmptyString, Schema.Struct({ env: Schema.NonEmptyString }))
export type Secret = typeof Secret.Type

export const server = {
  /**
   * Its address: http://gpu-1:11434, gpu-1:11434, https://host/v1. What stands before an @ in it becomes a Basic
   * header.
   */
  url: setting(fields.url, {
    doc: "Its address: http://gpu-1:11434, gpu-1:11434, https://host/v1. What stands before an @ in it becomes a Basic header."
  }),
  /**
   * What it speaks. Default: found out; an address that names a version, such as /v1, speaks openai, and
   * api.anthropic.com speaks anthropic.
   */
  protocol: setting(fields.protocol, {
    doc: "What it speaks.",
    defaultText:
      "found out; an address that names a version, such as /v1, speaks openai, and api.anthropic.com speaks anthropic"
  }),
  /**
   * Sent as Authorization: Bearer, or as x-api-key where protocol is anthropic; a text or a Redacted. In the file a
   * text, or { "env": "NAME" } for a variable that holds it.
   */
  apiKey: setting(fields.apiKey, {
    doc: 'Sent as Authorization: Bearer, or as x-api-key where protocol is anthropic; a text or a Redacted. In the file a text, or { "env": "NAME" } for a variable that holds it.',
    file: Secret
  }),
  /**
   * More headers of every request to it, never shown, each like apiKey. What HTTP itself sets (host, content-length, …)
   * is refused. In the terminal: servers add --header 'X-Tenant: blue', --header-env X-Key=VARIABLE. Default: none.
   */
  headers: setting(fields.headers, {
    doc: "More headers of every request to it, never shown, each like apiKey. What HTTP itself sets (host, content-length, …) is refused. In the terminal: servers add --header 'X-Tenant: blue', --header-env X-Key=VARIABLE.",
    defaultText: "none",
    file: Schema.Record({ key: Schema.String, value: Secret })
  }),
  /** Where it stands, for the routing strategy nearest: as the fleet's location. */
  location: setting(fields.location, {
    doc: "Where it stands, for the routing strategy nearest: as the fleet's location."
  }),
  /** Whose it is. */
  organization: setting(fields.organization, { doc: "Whose it is." }),
  /** Its share of the traffic within its priority. Default: 1. */
  weight: setting(fields.weight, { doc: "Its share of the traffic within its priority.", default: 1 }),
  /** Lower is tried first. Default: 0. */
  priority: setting(fields.priority, { doc: "Lower is tried first.", default: 0 }),
  /**
   * Requests at once; more wait. Default: unlimited; an Ollama server gets 4 per model to begin with, and then as many
   * as it is seen to answer at once, unless OLLAMA_NUM_PARALLEL says.
   */
  maxInFlight: setting(fields.maxInFlight, {
    doc: "Requests at once; more wait.",
    defaultText:
      "unlimited; an Ollama server gets 4 per model to begin with, and then as many as it is seen to answer at once, unless OLLAMA_NUM_PARALLEL says"
  }),
  /**
   * Whether it is local: private calls stay on local servers, and auto may prefer them or the others. Say false for a
   * tunnel to another machine, true for a server of your own network. Default: whether its address is of this machine.
   */
  local: setting(fields.local, {
    doc: "Whether it is local: private calls stay on local servers, and auto may prefer them or the others. Say false for a tunnel to another machine, true for a server of your own network.",
    defaultText: "whether its address is of this machine"
  }),
  /**
   * The hardware address of its machine, such as 00:11:22:33:44:55. Where it does not answer, and a call needs it, a
   * magic packet (wake-on-LAN) is sent, and the call waits for it up to loadTimeout. Listings never wake it. Default:
   * it is not woken.
   */
  wake: setting(fields.wake, {
    doc: "The hardware address of its machine, such as 00:11:22:33:44:55. Where it does not answer, and a call needs it, a magic packet (wake-on-LAN) is sent, and the call waits for it up to loadTimeout. Listings never wake it.",
    defaultText: "it is not woken"
  }),
  /**
   * Where the magic packet is sent (UDP): usually the broadcast address of its network, such as 192.168.1.255:9.
   * Default: 255.255.255.255:9.
   */
  wakeAddress: setting(fields.wakeAddress, {
    doc: "Where the magic packet is sent (UDP): usually the broadcast address of its network, such as 192.168.1.255:9.",
    defaultText: "255.255.255.255:9"
  })
} as const

const { url, ...others } = sectionOf(server)

/** A server in the configuration file. */
export const FileServer = Schema.Struct({ url: Schema.NonEmptyString, ...others }) as unknown as Schema.Schema<
  FileServer,
  FileServer
>
export interface FileServer extends Omit<Server.ServerOptions, "apiKey" | "headers" | "location"> {
  readonly apiKey?: Secret | undefined
  readonly headers?: { readonly [name: string]: Secret } | undefined
  readonly location?: string | Server.Location | undefined
}
