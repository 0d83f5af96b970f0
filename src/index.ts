/**
 * The Effect API, one namespace per module.
 *
 * @since 0.1.0
 */

export * as Backend from "./Backend.js"
export * as ApiRequest from "./backend/apiRequest.js"
export * as CallDefaults from "./CallDefaults.js"
export * as Chat from "./Chat.js"
export * as ChatEvent from "./ChatEvent.js"
export * as ChatRequest from "./ChatRequest.js"
export * as Cortex from "./Cortex.js"
export * as Embeddings from "./Embeddings.js"
export * as EmbedRequest from "./EmbedRequest.js"
export * as Errors from "./Errors.js"
export * from "./Errors.js"
export * as Failover from "./Failover.js"
export * as Fleet from "./Fleet.js"
export * as Gateway from "./Gateway.js"
export * as Message from "./Message.js"
export * as Model from "./Model.js"
export * as ModelSelection from "./ModelSelection.js"
export * as Probes from "./Probes.js"
export * as Registry from "./Registry.js"
export * as ResponseCache from "./ResponseCache.js"
export * as Router from "./Router.js"
export * as Server from "./Server.js"
export * as Sessions from "./Sessions.js"
export * as Settings from "./Settings.js"
export * as StructuredOutput from "./StructuredOutput.js"
export * as SessionFolder from "./sessions/folder.js"
export * as Telemetry from "./Telemetry.js"
export * as Transport from "./Transport.js"
