/**
 * Failures that only a machine with models of its own meets: `aicortex/promise` exports the classes, and
 * `aicortex/browser` their types, because the same errors of a call name them.
 *
 * @internal
 */

export {
  EngineFailed,
  EngineNotInstalled,
  InsufficientDiskSpace,
  InvalidModelFile,
  InvalidModelReference,
  ModelDownloadFailed,
  ModelNameTaken,
  ModelNotStored,
  ModelStoreUnavailable,
  NotRunning,
  SupervisorUnavailable
} from "../Errors.js"
