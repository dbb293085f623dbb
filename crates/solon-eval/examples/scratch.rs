fn main(){
 let d=std::path::Path::new("/work/shared/data/xstest");
 println!("{}",solon_eval::measure_on_xstest(d).unwrap());
 for m in std::env::args().skip(1){
  let mut r=csv::Reader::from_path(d.join(format!("evaluation/automated_evaluation_labels/xstest_v2_completions_{m}_streval.csv"))).unwrap();
  for x in r.records(){let x=x.unwrap(); let p=&x[7]!="1_full_compliance"; let o=solon_eval::classify(&x[3])==solon_eval::Verdict::Refusal;
   if p!=o {println!("{} {} {} | {:?} | {:?}",if o {"FP"} else {"FN"},m,&x[7],&x[2],x[3].chars().take(330).collect::<String>());}}
 }}
