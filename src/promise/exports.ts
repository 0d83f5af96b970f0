/**
 * What `aicortex/promise` and `aicortex/browser` both export: each has all of it, under the same names.
 *
 * @internal
 */

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
} from "../Benchmark.js"
export type { ApiRequest, Options as ApiRequestOptions } from "../backend/apiRequest.js"
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
} from "../ChatEvent.js"
export type { Routing } from "../ChatRequest.js"
export type { Line as ServerLine, Resources as MachineResources } from "../Conditions.js"
export type { JsonObject } from "../chatRequest/parts.js"
export type {
  Candidate as DecisionCandidate,
  Conditions as DecisionConditions,
  Decision,
  Excluded as DecisionExcluded,
  Pair as DecisionPair
} from "../Decision.js"
export type { Embedded } from "../EmbedRequest.js"
export type {
  Attempt,
  ChatError,
  FailureReason,
  LocalModelError,
  Phase,
  SchemaIssue,
  Unreachable,
  Unsupported
} from "../Errors.js"
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
} from "../Errors.js"
export type { AgentChecks, Executed, Metrics, Output } from "../Execute.js"
export type { Result } from "../Failover.js"
export type { Message, ToolCall } from "../Message.js"
export type { ModelInfo } from "../Model.js"
export type { LlmParams, ModelsOptions, RegistrySource, SearchOptions, ServerStatus } from "../Registry.js"
export type { Performance as ServerPerformance, ServerInfo, ServerOptions } from "../Server.js"
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
} from "../Sessions.js"
export type {
  BenchmarkOptions,
  ChatFunction,
  ChatOptions,
  EmbedOptions,
  ExecuteOptions,
  LoadTestOptions,
  Prompt,
  Tool
} from "./calls.js"
export { tool } from "./calls.js"
export { ChatStream, StructuredStream } from "./chatStream.js"
export type { Cortex, SessionFactory, SessionOptions } from "./cortex.js"
