#!/bin/bash
# The features of one data set on eight machines of a Slurm cluster, into one cache folder that all of them see:
#     sbatch --export=ALL,DATA=/shared/photos slurm_array.sh
# A task that failed is run again by its number, such as: sbatch --array=3 slurm_array.sh
# A head is trained once all tasks have ended well:
#     sbatch --dependency=afterok:JOB --wrap 'layertap train-head /shared/photos --net resnet50 --out run'
#SBATCH --job-name=layertap
#SBATCH --array=0-7
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --output=layertap-%A-%a.log
set -euo pipefail

# The number of parts, as in --array above. Not $SLURM_ARRAY_TASK_COUNT, which is smaller where some are run again.
PARTS=8
: "${DATA:=photos}" "${NET:=resnet50}"
export LAYERTAP_CACHE="${LAYERTAP_CACHE:-features}"

layertap extract "$DATA" --net "$NET" --shard "$SLURM_ARRAY_TASK_ID/$PARTS" --on-error skip --quiet
