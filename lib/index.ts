// The public names, nothing else.

export { type BitsPerDim, type BitsPerDimOptions, bitsPerDim } from './analysis/bits-per-dim.ts'
export { pixelVariance } from './analysis/data-variance.ts'
export { ERROR_SPACES, type ErrorSpace, errorFactors } from './analysis/error-space.ts'
export { type GaussianMixture, gaussianMixtureXStart } from './analysis/gaussian-mixture.ts'
export {
  type GaussianImageOptions,
  type GaussianModelOptions,
  gaussianEpsLoss,
  gaussianSpectrum,
} from './analysis/gaussian-model.ts'
export {
  type GradientConflict,
  type GradientConflictOptions,
  gradientConflict,
  type HeadGradients,
  type SlotGradients,
} from './analysis/gradient-conflict.ts'
export { type GradientMoments, gradientMoments } from './analysis/gradient-moments.ts'
export { type HeadShares, headShares } from './analysis/head-gradients.ts'
export { type MeasureHeadStatisticsOptions, measureHeadStatistics } from './analysis/head-statistics.ts'
export {
  INTERFERENCE_SPACES,
  type Interference,
  type InterferenceMatrix,
  type InterferenceOptions,
  interference,
} from './analysis/interference.ts'
export { interferenceInstrument } from './analysis/interference-instrument.ts'
export { readLossCurve, writeLossCurve } from './analysis/loss-curve-file.ts'
export { type GradientBatch, type GradientGram, lossGradientGram } from './analysis/loss-gradient.ts'
export { estimateMemory, type MemoryEstimate, type MemoryQuestion } from './analysis/memory-estimate.ts'
export {
  type Probe,
  type ProbeCurve,
  type ProbeOptions,
  probe,
  type RecommendedSlots,
} from './analysis/probe.ts'
export { probeInstrument } from './analysis/probe-instrument.ts'
export {
  INTERVENTIONS,
  type Intervention,
  type Replacement,
  type ReplacementBaseline,
  type ReplacementOptions,
  type ReplacementResult,
  replacement,
} from './analysis/replacement.ts'
export { replacementInstrument } from './analysis/replacement-instrument.ts'
export {
  openLoopWeights,
  replacementWindows,
  type StepWindow,
  WINDOW_MEASURES,
  type WindowMeasure,
} from './analysis/replacement-windows.ts'
export { SLOT_RULES, type SlotEdges, type SlotRule } from './analysis/slot-rules.ts'
export {
  type CurveSpread,
  curveOverTimesteps,
  curveSpread,
  probeTimesteps,
} from './analysis/timestep-curve.ts'
export { lossCurve, measureTimestepLoss, type TimestepLoss } from './analysis/timestep-loss.ts'
export { readTensors, writeTensors } from './checkpoint-file.ts'
export { lossShares, partitionByLoss, partitionEvenly } from './curriculum/partition.ts'
export {
  allSlots,
  customPlan,
  oneSlot,
  PLAN_DIRECTIONS,
  type PlanDirection,
  parsePlan,
  roundRobin,
  type SequentialOptions,
  type SlotPlan,
  sequential,
  type WeightedRandomOptions,
  weightedRandom,
} from './curriculum/plan.ts'
export { type Slot, slotOf } from './curriculum/slot.ts'
export { type BatchOptions, batches, imagesInOrder } from './data/batches.ts'
export { CIFAR10_CLASSES, type Cifar10Options, cifar10 } from './data/cifar10.ts'
export { holdOut, type ImageDataset, inMemory, type MemoryImages, padded, subset } from './data/dataset.ts'
export type { AlphaMode } from './data/decode.ts'
export { type DigitsOptions, digits, digitsFrom } from './data/digits.ts'
export { type EmojiOptions, emojiPictures } from './data/emoji.ts'
export { type IdxOptions, idx } from './data/idx.ts'
export { type ImageFolder, type ImageFolderOptions, imageFolder } from './data/image-folder.ts'
export type { LabelMode } from './data/list-images.ts'
export { type LowResImages, type LowResOptions, lowResImages } from './data/low-res-images.ts'
export type { NpyArray } from './data/npy.ts'
export { type NpzOnDisk, type NpzOptions, npz, npzOnDisk, writeNpz, writeSamplesNpz } from './data/npz.ts'
export { type OpenOptions, openDataset } from './data/open.ts'
export type { Pixels } from './data/pillow-resize.ts'
export { lowResTwin, withLowRes } from './data/super-resolution.ts'
export { toUint8 } from './data/to-uint8.ts'
export {
  checkDevice,
  type Device,
  KERNELS,
  type Kernels,
  type MemoryCount,
  memoryCount,
  PRECISIONS,
  resetPeakMemory,
  runtimeInfo,
  setKernels,
  setThreads,
} from './device.ts'
export { DeviceTensor } from './device-tensor.ts'
export { CheckpointError, DataError, NativeError, SetupError } from './errors.ts'
export {
  featureStatistics,
  frechetDistance,
  type GaussianStatistics,
  inceptionScore,
  type KernelDistance,
  type KernelDistanceOptions,
  kernelDistance,
  precisionRecall,
} from './metrics/distances.ts'
export {
  datasetFeatures,
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  type Reference,
} from './metrics/evaluate.ts'
export { FeatureNetwork, type ImageFeatures } from './metrics/feature-network.ts'
export { pixelSpread, type SlicedWassersteinOptions, slicedWasserstein } from './metrics/pixels.ts'
export {
  type MakeReferenceOptions,
  makeReference,
  type ReferenceFile,
  readReference,
} from './metrics/reference.ts'
export { allHeadsPolicy } from './mixing/all-heads.ts'
export { type BlueOptions, blueWeights } from './mixing/blue.ts'
export { type ConsensusOptions, consensusPolicy } from './mixing/consensus.ts'
export { type ByName, type HeadRow, type HeadRowBin, headRow } from './mixing/head-row.ts'
export { HeadStatistics, type HeadStatisticsOptions } from './mixing/head-statistics.ts'
export { readHeadStatistics, writeHeadStatistics } from './mixing/head-statistics-file.ts'
export { type LogSnrBins, logSnrBins, logSnrOf } from './mixing/log-snr-bins.ts'
export { mergePolicy } from './mixing/merge.ts'
export { type MinimumOptions, minimumPolicy } from './mixing/minimum.ts'
export type { MixContext } from './mixing/mix-context.ts'
export { type NormalisedOptions, normalisedPolicy } from './mixing/normalised.ts'
export type { HeadDecider, HeadDecision, HeadPolicy, MixtureLoss } from './mixing/policy.ts'
export { type RelaxedOptions, relaxedPolicy } from './mixing/relaxed.ts'
export { type SoftminOptions, softminPolicy } from './mixing/softmin.ts'
export { MIX_NAMES, type Mix, type MixName, parseMix } from './mixing/strategies.ts'
export { type TableOptions, tablePolicy } from './mixing/table.ts'
export { type HeadUncertaintyOptions, uncertaintyPolicy } from './mixing/uncertainty.ts'
export { withStatistics } from './mixing/with-statistics.ts'
export {
  CLASSIFIER_PRESETS,
  Classifier,
  type ClassifierConfig,
  type ClassifierInput,
  type ClassifierOptions,
  classifierConfig,
  POOLS,
  type RawClassifierOptions,
} from './model/classifier.ts'
export { NETWORK_PRESETS, type NetworkPreset } from './model/presets.ts'
export {
  CLASSIFIER_RECIPES,
  type ClassifierRecipe,
  RECIPES,
  type Recipe,
  type RecipeName,
  type RecipeTraining,
} from './model/recipes.ts'
export {
  type LoadWeightsOptions,
  type LoadWeightsReport,
  optionsFromGuidedDiffusion,
  type RawUNetOptions,
  UNet,
  type UNetConfig,
  type UNetInput,
  type UNetOptions,
  unetConfig,
} from './model/unet.ts'
export type { Choose, HostData, LossKind, NoiseKey, Pool, Precision, Space, VarianceType } from './native.ts'
export { ALL_HEADS, HEADS, type Head } from './prediction/heads.ts'
export { type HeadWeights, signalWeights } from './prediction/signal-weights.ts'
export { keyedRandom, type Purpose, type Random, type RandomStream } from './random.ts'
export { type GridOptions, imageGrid, onePicture } from './report/grid.ts'
export {
  type HeatmapPlot,
  type Instrument,
  type InstrumentTable,
  type LinePlot,
  type PlotAxis,
  type PlotSeries,
  type PlotSpec,
  writeInstrument,
} from './report/instrument-file.ts'
export {
  type Axis,
  type Band,
  type Plot,
  plotSvg as heatmapSvg,
  plotSvg as lineSvg,
  plotSvg,
  type Series,
  svgToPng,
} from './report/plot.ts'
export { encodePng, writePng } from './report/png.ts'
export { type ReportOptions, writeReport } from './report/report.ts'
export { type RunRow, timestepLossPlot, writeRunPlots } from './report/run-plots.ts'
export { sideBySide } from './report/side-by-side.ts'
export { type Watch, type WatchOptions, watchRun } from './report/watch.ts'
export {
  type CombineSources,
  combineByBlue,
  combineBySignal,
  combineByTable,
  defaultCombine,
  openCombine,
  parseCombine,
} from './sampling/combine.ts'
export {
  type ClassifierGuidance,
  type Combine,
  Denoiser,
  type DenoiserOptions,
} from './sampling/denoiser.ts'
export { type DecodeOptions, decode, type EncodeOptions, encode } from './sampling/encode.ts'
export { type SampleOptions, sample } from './sampling/sample.ts'
export { drawSamplesNpz, drawSamplesPng, type SampleFilesOptions } from './sampling/sample-files.ts'
export {
  ODE_SOLVERS,
  SOLVERS,
  type SolveOptions,
  type Solver,
  type SolverName,
  type SolverSettings,
  type StepProgress,
  solve,
} from './sampling/solver.ts'
export {
  NoiseSchedule,
  type NoiseScheduleOptions,
  SCHEDULE_NAMES,
  type ScheduleName,
  type ScheduleTables,
  type Visits,
} from './schedule/noise-schedule.ts'
export { SPACINGS, type SpacingName, type StepSpacing, spaceSteps } from './schedule/noise-spacing.ts'
export { spaceTimesteps } from './schedule/spacing.ts'
export {
  type Alternation,
  alternation,
} from './statistics/alternation.ts'
export { type BootstrapOptions, bootstrapInterval, quantile } from './statistics/bootstrap.ts'
export {
  holm,
  type MeanInterval,
  meanInterval,
  minimumDetectableEffect,
  pairedDifference,
  pairsNeeded,
} from './statistics/paired.ts'
export { incompleteBeta, studentQuantile, studentTail } from './statistics/student.ts'
export type { CellResult, CurvePoint, HeldOutMeans, HeldOutResult, PerTimestep } from './study/cell.ts'
export {
  type ArmComparison,
  type CellName,
  compareArms,
  firstBelow,
  type ImagesToReach,
  type MetricComparison,
} from './study/comparison.ts'
export {
  type CombinedErrorOptions,
  clippedError,
  combinedError,
  comparedTimesteps,
  type HeldOutError,
  type HeldOutErrorOptions,
  heldOutError,
} from './study/held-out-error.ts'
export type { SampleResult } from './study/samples.ts'
export {
  type RunningCell,
  runStudy,
  type StudyProgress,
  type StudyRun,
  type StudyRunOptions,
} from './study/study.ts'
export {
  type EvaluationSettings,
  parseStudy,
  type SampleSettings,
  type Study,
  type StudyArm,
  type StudyOptions,
} from './study/study-file.ts'
export { SWEEP_HALF_LIVES, SWEEP_SPACES, type SweepOptions, sweepStudy } from './study/sweep.ts'
export type { HostTensor, ImageBatch, ImageShape } from './tensor.ts'
export {
  type AdaptiveDensityOptions,
  type AdaptiveDensitySampler,
  adaptiveDensitySampler,
} from './timesteps/adaptive-density.ts'
export {
  type CurriculumOptions,
  type CurriculumSampler,
  curriculumSampler,
} from './timesteps/curriculum.ts'
export {
  clippedSnr,
  fixedLaw,
  lawFromMass,
  lawOnLogSnr,
  logSnrDensity,
  logSnrEdges,
  type TimestepLaw,
} from './timesteps/law.ts'
export { type LawSamplerOptions, lawSampler } from './timesteps/law-sampler.ts'
export { betaLaw } from './timesteps/laws/beta.ts'
export { cltsLaw } from './timesteps/laws/clts.ts'
export { constantRateLaw, type PowerShare } from './timesteps/laws/constant-rate.ts'
export { cauchyLaw, cosineInterpolatedLaw, cosineLaw, edmLaw, laplaceLaw } from './timesteps/laws/log-snr.ts'
export { logitNormalLaw } from './timesteps/laws/logit-normal.ts'
export { modeLaw } from './timesteps/laws/mode.ts'
export { speedLaw } from './timesteps/laws/speed.ts'
export { uniformLaw } from './timesteps/laws/uniform.ts'
export {
  type LossSecondMomentOptions,
  type LossSecondMomentSampler,
  lossSecondMomentSampler,
} from './timesteps/loss-second-moment.ts'
export {
  type RefreshedSlotOptions,
  type RefreshedSlotSampler,
  refreshedSlotSampler,
  SLOT_REFRESH_RULES,
  type SlotRefreshRule,
} from './timesteps/refreshed-slots.ts'
export type { JsonValue, StepLosses, TimestepDraw, TimestepSampler } from './timesteps/sampler.ts'
export { type SlotSamplerOptions, slotSampler } from './timesteps/slots.ts'
export { goldenSampler, stratifiedSampler, systematicSampler } from './timesteps/stratified.ts'
export { type PositionStream, positionStream, STREAMS, type StreamName } from './timesteps/stream.ts'
export {
  type TimeWarpingOptions,
  type TimeWarpingSampler,
  timeWarpingSampler,
} from './timesteps/time-warping.ts'
export {
  type UncertaintyOptions,
  type UncertaintySampler,
  uncertaintySampler,
} from './timesteps/uncertainty.ts'
export { type UniformSamplerOptions, uniformSampler } from './timesteps/uniform.ts'
export { weightedSampler } from './timesteps/weighted-sampler.ts'
export {
  COMMON_SPACES,
  type CommonSpace,
  type ScheduleWeighting,
  type SnrWeighting,
  spaceFactor,
  WEIGHTING_NAMES,
  WEIGHTINGS,
  type Weighting,
  type WeightingEntry,
  type WeightingFactorsOptions,
  type WeightingName,
  weightingFactors,
  weightingOf,
} from './timesteps/weighting.ts'
export {
  type CheckpointFile,
  type CheckpointState,
  headStatisticsOf,
  type LoadedCheckpoint,
  latestCheckpoint,
  listCheckpoints,
  loadCheckpoint,
  loadForSampling,
  readCheckpoint,
  restoreCheckpoint,
  type SaveOptions,
  saveCheckpoint,
  type WeightsChoice,
} from './training/checkpoint.ts'
export {
  type ClassifierCheckpointState,
  loadClassifierCheckpoint,
  type OpenedClassifier,
  openClassifier,
  saveClassifierCheckpoint,
} from './training/classifier-checkpoint.ts'
export {
  type ClassifierRunConfig,
  type ClassifierRunOptions,
  classifierRunConfig,
} from './training/classifier-config.ts'
export {
  type ClassifierHooks,
  type ClassifierReport,
  type ClassifierRow,
  type ClassifierScore,
  runClassifier,
} from './training/classifier-run.ts'
export {
  accuracy,
  type ClassifierLosses,
  type ClassifierStepResult,
  ClassifierTrainer,
  type ClassifierTrainerConfig,
  type ClassifierTrainerOptions,
} from './training/classifier-trainer.ts'
export type { GradientRow } from './training/gradient-shares.ts'
export {
  LEARNING_RATE_KINDS,
  type LearningRateConfig,
  type LearningRateKind,
  learningRate,
} from './training/learning-rate.ts'
export { type StepReport, type TrainOptions, train } from './training/loop.ts'
export { type DrawOptions, drawImages, writeGrid, writeSuperResolution } from './training/preview.ts'
export { type RunHooks, type RunImages, type RunReport, type RunResult, run } from './training/run.ts'
export { type RunConfig, type RunOptions, runConfig, runWarnings } from './training/run-config.ts'
export { RUN_RECIPES, type RunRecipe, rateOfHalfLife } from './training/run-recipes.ts'
export { measureSpeed, type SpeedOptions, type TrainingSpeed } from './training/speed.ts'
export { SAMPLER_NAMES } from './training/timestep-options.ts'
export {
  LOSS_KINDS,
  type LossOptions,
  type LossScaleOptions,
  SPACES,
  type StepResult,
  Trainer,
  type TrainerConfig,
  type TrainerOptions,
  type TrainStepInput,
  trainedVariance,
  trainerConfig,
  VARIANCE_TYPES,
} from './training/trainer.ts'
export { type ConfigFile, readConfigFile } from './weights/config-file.ts'
export { type Conversion, convertWeights } from './weights/convert.ts'
export {
  type DescribedModel,
  type DescribeOptions,
  describeModel,
  type GivenModel,
  type ModelDescription,
} from './weights/describe.ts'
export { type InferredNetwork, inferNetwork } from './weights/infer.ts'
export { inspectWeights, type TensorInfo, type WeightsContents } from './weights/inspect.ts'
export { type LoadedModel, loadModel } from './weights/load-model.ts'
