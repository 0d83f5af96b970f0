import { fileURLToPath } from "node:url"
import { configDefaults, defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

const src = (file: string) => fileURLToPath(new URL(`./src/${file}`, import.meta.url))

/** Files that take a minute and more, the longest first: one that began last would be waited for alone. */
const longest = [
  "cli/cli",
  "docs/blocks",
  "failover/resume",
  "supervisor/serve",
  "package/promiseInstall",
  "failover/failover",
  "cli/serve",
  "cli/configChange",
  "supervisor/run",
  "gateway/contract",
  "cli/chat/commands",
  "cli/chat/typing",
  "registry/pipeline",
  "cli/benchRouting",
  "package/package",
  "conditions/pressure"
]

/**
 * Short files that start no process, measure none, and read no metrics, which Effect holds for the whole process: one
 * thread runs them one after another. A process for each would load Effect and Vitest again, which takes longer than
 * their tests. Modules of the project are loaded again for each file, as everywhere.
 */
const inOneThread = [
  "backend/{anthropic,anthropicEvents,codecs,tokenCounts}",
  "chat/{answers,callerStack,embeddings,eventTypes,histories,printedErrors,replacedServices,severalAnswers}",
  "chat/{testModel,thinking,toolFaces,toolSchemas,toolTypes}",
  "cli/{flagMeanings,chat/optionFlags}",
  "config/{brokenFile,durations,nullOptions,serverAddress,serverCooldown,serverOptions,settings}",
  "docs/{contents,links}",
  "engine/plainFlags",
  "failover/{blankBeginnings,firstCalls,hedging,missingModel,progress,retries,splice}",
  "fleet/{fairQueue,manyModels,speeds}",
  "gateway/{bodyItems,oblixSessions,requestPolicy}",
  "gateway/{agentRequests,anthropicUpstream,chunkedResponses,clients,corsOrigins,decision,embeddingErrors,events}",
  "gateway/{ollama,ollamaBrokenJson,ollamaCached,ollamaFaithful,ollamaHints,ollamaModels,ollamaProvider}",
  "gateway/{ollamaTranscript,openai,openapiExamples,ownRequests,sessionRoutes}",
  "keys/quotaRaces",
  "modelSelection/{allCandidates,decision,modelsOfNames,policy,private}",
  "modelStore/{promise,reference,store}",
  "registry/{anthropicModels,modelNames,pipelineLibrary,pipelineParts,registry,registryWatch}",
  "sessions/{promise,sessions,sharing}",
  "structuredOutput/{answers,partialJson,schemaTypes,schemas,sizes,streamedValues,structuredOutput}"
].map((names) => `test/${names}.test.ts`)

class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>) {
    const sorted = await super.sort(files)
    const place = ({ moduleId }: TestSpecification) => {
      const at = longest.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`))
      return at < 0 ? longest.length : at
    }
    return sorted.sort((a, b) => place(a) - place(b))
  }
}

export default defineConfig({
  // Tests and examples may name the package; they always run its source.
  resolve: {
    alias: [
      { find: /^aicortex$/, replacement: src("index.ts") },
      { find: /^aicortex\/promise$/, replacement: src("promise.ts") },
      { find: /^aicortex\/browser$/, replacement: src("browser.ts") }
    ]
  },
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: "processes",
          pool: "forks",
          include: ["test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...inOneThread]
        }
      },
      {
        extends: true,
        test: { name: "thread", pool: "threads", include: inOneThread, poolOptions: { threads: { isolate: true } } }
      }
    ],
    poolOptions: { threads: { isolate: false, minThreads: 1, maxThreads: 1 } },
    minWorkers: 1,
    // Most files wait for processes and timers for half of their time: with fewer, two cores are often idle.
    maxWorkers: 4,
    sequence: { sequencer: LongestFirst },
    // These end what hangs, and decide nothing: a busy machine may be ten times as slow.
    testTimeout: 120_000,
    hookTimeout: 240_000,
    expect: { poll: { timeout: 60_000 } },
    // One line per test file; a passing test prints nothing of its own, a failing one everything.
    reporters: ["default"],
    silent: "passed-only"
  }
})
