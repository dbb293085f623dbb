//! temporary
use std::path::Path;
fn main() {
    for f in ["/tmp/sd/hh.jsonl", "/work/shared/data/trl-zen/standard_preference.jsonl", "/work/shared/data/trl-zen/standard_unpaired_preference.jsonl","/work/shared/data/llama-factory/v1_dpo_demo.jsonl","/work/shared/data/hh-rlhf/harmless-base-test.jsonl.gz","/work/shared/data/llama-factory/dpo_en_demo.json"] {
        match solon_data::records::read_pairs(Path::new(f)) {
            Ok(p) => { println!("{f}: {} pairs; turns {}", p.len(), p.iter().map(|p| p.prompt.len()).sum::<usize>());
              for i in [86usize,1254,1688,1950,1952,2036] { if let Some(p)=p.get(i) { println!("  {i} {:?} C {:.80?} R {:.80?}", p.prompt.last().map(|m| m.content.chars().take(50).collect::<String>()), p.chosen, p.rejected); } }
              let out = Path::new("/tmp/sd/out.jsonl"); solon_data::export::write_pairs(out, &p).unwrap(); assert_eq!(solon_data::records::read_pairs(out).unwrap(), p); }
            Err(e) => println!("{e}"),
        }
        match solon_data::records::read_demonstrations(Path::new(f)) { Ok(d) => println!("  {} demos", d.len()), Err(e) => println!("  demo: {e}") }
        match solon_data::records::read_prompts(Path::new(f)) { Ok(d) => println!("  {} prompts", d.len()), Err(e) => println!("  prompt: {e}") }
    }
    for f in ["v1_sft_demo.jsonl","c4_demo.jsonl","wiki_demo.txt","identity.json"] {
        match solon_data::records::read_demonstrations(&Path::new("/work/shared/data/llama-factory").join(f)) { Ok(d) => println!("{} demos", d.len()), Err(e) => println!("demo: {e}") }
    }
}
