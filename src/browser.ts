/**
 * The Promise facade for web pages: the same functions over your servers or a gateway, reached by `fetch`.
 *
 * ```ts
 * import { createCortex } from "aicortex/browser"
 *
 * const cortex = createCortex({ servers: ["http://gpu-1:11434"], model: "llama3.2:3b" })
 * for await (const event of await cortex.chat("Why is the sky blue?", { stream: true })) {
 *   if (event.type === "token") document.body.append(event.content)
 * }
 * ```
 *
 * Nothing comes from an environment or a file, and no server is asked that the page does not name. Servers must allow
 * the page: the failure `blocked` says how.
 *
 * @since 0.2.0
 */
import type * as Layer from "effect/Layer"
import * as Wiring from "./browser/wiring.js"
import { withoutNulls } from "./internal/optionSchemas.js"
import { type Cortex, cortexOver, Session } from "./promise/cortex.js"

export type {
  LoadDistribution,
  LoadGoodput,
  LoadObjectives,
  LoadProgress,
  LoadReport,
  LoadRequests,
  LoadStep,
  Phase as BenchmarkPhase,
  Report as BenchmarkReport,
  Result as BenchmarkResult,
  Skipped as BenchmarkSkipped
} from "./Benchmark.js"
export type { ApiRequest, Options as ApiRequestOptions } from "./backend/apiRequest.js"
export type { KeyValueStorage } from "./browser/store.js"
export type {
  AttemptMeta,
  CachedMeta,
  ChatEvent,
  End as EndEvent,
  ErrorEvent,
  FinishReason,
  Logprobs as LogprobsEvent,
  Meta as MetaEvent,
  PartialValue as PartialEvent,
  Repair as RepairEvent,
  Restart as RestartEvent,
  Start as StartEvent,
  StructuredEvent,
  Thinking as ThinkingEvent,
  Timings,
  Token as TokenEvent,
  ToolCallDelta as ToolCallDeltaEvent,
  ToolCallEvent,
  ToolResultEvent,
  TrimmedMeta,
  Usage,
  Value as ValueEvent
} from "./ChatEvent.js"
export type { Routing } from "./ChatRequest.js"
export type { Line as ServerLine, Resources as MachineResources } from "./Conditions.js"
export type { JsonObject } from "./chatRequest/parts.js"
export type {
  Candidate as DecisionCandidate,
  Conditions as DecisionConditions,
  Decision,
  Excluded as DecisionExcluded,
  Pair as DecisionPair
} from "./Decision.js"
export type { Embedded } from "./EmbedRequest.js"
export type {
  Attempt,
  ChatError,
  EngineFailed,
  EngineNotInstalled,
  FailureReason,
  InsufficientDiskSpace,
  InvalidModelFile,
  InvalidModelReference,
  LocalModelError,
  ModelDownloadFailed,
  ModelNameTaken,
  ModelNotStored,
  ModelStoreUnavailable,
  NotRunning,
  Phase,
  SchemaIssue,
  SupervisorUnavailable,
  Unreachable,
  Unsupported
} from "./Errors.js"
export {
  AllServersFailed,
  Closed,
  DeadlineExceeded,
  EngineUnavailable,
  InvalidConfig,
  InvalidRequest,
  isChatError,
  ModelNotFound,
  ModelPriceUnknown,
  NoLocalServer,
  NoServers,
  NoSuitableModel,
  Overloaded,
  PersonaNotFound,
  RegistrySourceFailed,
  RegistryWarning,
  RemoteBudgetExhausted,
  RemoteTokensExhausted,
  SchemaMismatch,
  SessionNotFound,
  SessionsUnavailable,
  StoreUnavailable,
  StreamInterrupted,
  ToolFailed,
  TurnNotStored
} from "./Errors.js"
export type { AgentChecks, Executed, Metrics, Output } from "./Execute.js"
export type { Result } from "./Failover.js"
export type { Message, ToolCall } from "./Message.js"
export type { ModelInfo } from "./Model.js"
export type {
  BenchmarkOptions,
  ChatFunction,
  ChatOptions,
  EmbedOptions,
  ExecuteOptions,
  LoadTestOptions,
  Prompt,
  Tool
} from "./promise/calls.js"
export { tool } from "./promise/calls.js"
export { ChatStream, StructuredStream } from "./promise/chatStream.js"
export type { Cortex, SessionFactory, SessionOptions } from "./promise/cortex.js"
export { Session } from "./promise/cortex.js"
export type { LlmParams, ModelsOptions, RegistrySource, SearchOptions, ServerStatus } from "./Registry.js"
export type { Performance as ServerPerformance, ServerInfo, ServerOptions } from "./Server.js"
export type {
  Changes as SessionChanges,
  CopyOptions as SessionCopyOptions,
  Details as SessionDetails,
  Exported as ExportedSession,
  ExportedTurn as ExportedSessionTurn,
  Filter as SessionFilter,
  Hit as SessionHit,
  Imported as SessionImported,
  ImportOptions as SessionImportOptions,
  ImportReport as SessionImportReport,
  ListOptions as SessionListOptions,
  Metadata as SessionMetadata,
  Page as SessionPage,
  PruneOptions as SessionPruneOptions,
  Refused as SessionRefused,
  SearchOptions as SessionSearchOptions,
  StoredTurn as SessionTurn,
  Summary as SessionSummary,
  TurnUsage as SessionTurnUsage
} from "./Sessions.js"

/**
 * The settings of a fleet in a page: those of `aicortex/promise` that need no files. `registry` are addresses of registry
 * files.
 *
 * @since 0.2.0
 * @category models
 */
export interface CortexOptions extends Wiring.BrowserOptions {
  /** A layer of Effect that sets a tracer. Default: none. */
  readonly tracing?: Layer.Layer<never> | undefined
}

/**
 * A fleet of a page's own. An option that cannot be used, such as a file, makes every call reject with `InvalidConfig`.
 * Conversations are kept in memory.
 *
 * @example
 * import { createCortex } from "aicortex/browser"
 *
 * const cortex = createCortex({ servers: ["https://llm.example.com"], model: "auto" })
 * console.log(await cortex.chat("Hello!"))
 *
 * @since 0.2.0
 * @category constructors
 */
export const createCortex = (userOptions?: CortexOptions): Cortex => {
  const { tracing, ...options } = withoutNulls(userOptions ?? {})
  return cortexOver(Wiring.layer(options), tracing, Session)
}
